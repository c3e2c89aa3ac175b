"""Dispatch: choose the next job, hold it while it runs, and end or restore jobs that no worker holds."""
