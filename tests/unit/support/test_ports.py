"""Test reserved ports: no process is given one that another one has. Each process here has a list of its own."""

import subprocess
import sys

from tests.support.ports import reserve_port

_RESERVE = """
import sys
from tests.support import ports

first, last = map(int, sys.argv[1:])
ports._RESERVABLE = range(first, last)
print(next(ports._reserved(), "none"), flush=True)
sys.stdin.read()
"""


def reserving(first: int, last: int) -> "subprocess.Popen[str]":
    """Start a process that reserves one of these ports, and keeps it until its input ends."""
    command = [sys.executable, "-c", _RESERVE, str(first), str(last)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_port_is_reserved_once() -> None:
    assert len({reserve_port() for _ in range(20)}) == 20


def test_a_reserved_port_is_not_given_to_another_process_until_its_own_ends() -> None:
    with reserving(10_000, 20_000) as holder:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        with reserving(port, port + 1) as other:
            assert other.communicate()[0] == "none\n"
        holder.communicate()
    with reserving(port, port + 1) as later:
        assert later.communicate()[0] == f"{port}\n"
