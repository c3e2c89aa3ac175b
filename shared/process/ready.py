"""How a part tells the process that started it that it is ready: one line on a pipe.

The parent hands over the pipe's number as `--ready-fd`. Above: gateway/cli.py and the worker's programs; the
other end is read by gateway/supervisor.py.
"""

import os

READY_LINE = b"ready\n"


def tell_ready(fd: int | None) -> None:
    """Write the line and close the pipe. Without `fd`, nobody is waiting for it."""
    if fd is None:
        return
    try:
        os.write(fd, READY_LINE)
    finally:
        os.close(fd)
