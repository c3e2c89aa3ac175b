"""Run one claimed job until it ends or leaves this process."""
