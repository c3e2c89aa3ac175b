"""Report to the parent process that a part is ready: one line on a pipe.

The parent passes the pipe's number as `--ready-fd`; gateway/supervisor.py reads the other end.
"""

import os

READY_LINE = b"ready\n"


def report_ready(fd: int | None) -> None:
    """Write the line and close the pipe. Without `fd`, no parent waits for it."""
    if fd is None:
        return
    try:
        os.write(fd, READY_LINE)
    finally:
        os.close(fd)
