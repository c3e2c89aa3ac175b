"""Serve another process's calls of functions: `python -P -m shared.process.call_server <descriptor> <modules>`.

The modules have the functions, and are loaded before the priority is lowered. The descriptor is an end of a
`multiprocessing` connection to the process that started this one, which runs the same code. An error of the error tree
is an answer. Any other error is a defect: it ends this process with a traceback.
Not here: the calls, and starting this process (call_process.py).
"""

import pickle
import sys
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Final

from shared.model.errors import TailraceError
from shared.process.priority import lower_priority

NICE: Final = 5
"""The niceness of this process: the gateway takes precedence, and a full machine still gives it a share."""


def serve(connection: Connection) -> None:
    """Answer calls until the other process closes its end."""
    while True:
        try:
            call = connection.recv_bytes()
        except EOFError:
            return
        connection.send_bytes(pickle.dumps(_answer(call), pickle.HIGHEST_PROTOCOL))


def _answer(call: bytes) -> object:
    work = pickle.loads(call)  # noqa: S301  # it comes from the parent process
    try:
        return work()
    except TailraceError as error:
        return error


if __name__ == "__main__":
    for module in sys.argv[2:]:
        import_module(module)
    lower_priority(NICE)
    with Connection(int(sys.argv[1])) as opened:
        serve(opened)
