"""Logs and metrics: how a process is watched."""
