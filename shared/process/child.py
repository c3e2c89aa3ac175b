"""Start and stop a child process that does not outlive its parent.

A child has a session of its own, so that Ctrl-C in the terminal reaches only the parent, which then stops its children
in order. Not here: when to start one (the supervisor, the embedded Valkey).
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Callable, Mapping, Sequence
from typing import IO

# prctl(2): "set the parent-death signal of the calling process".
_PR_SET_PDEATHSIG = 1


async def start_child(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: int = DEVNULL,
    output: IO[bytes] | int | None = None,
    pass_fds: Sequence[int] = (),
    death_signal: signal.Signals = signal.SIGKILL,
    umask: int = -1,
) -> Process:
    """Start `argv`; its stdout and stderr both go to `output` (None: this process's). `umask` -1: this process's.

    On Linux the child gets `death_signal` when this process ends for any reason. Call it from the main thread: the
    kernel takes the end of the thread that started a child for the end of its parent.

    Raises:
        OSError: it can't be executed.
    """
    return await asyncio.create_subprocess_exec(
        *argv,
        env=env,
        stdin=stdin,
        stdout=output,
        stderr=STDOUT if output is not None else None,
        pass_fds=pass_fds,
        start_new_session=True,
        preexec_fn=_prepare_child(death_signal, umask),
    )


async def stop_child(process: Process, timeout_s: float) -> int:
    """Send SIGTERM, and SIGKILL if the child has not ended after `timeout_s` seconds. Returns its exit status."""
    signal_child(process, signal.SIGTERM)
    try:
        return await asyncio.wait_for(process.wait(), timeout_s)
    except TimeoutError:
        signal_child(process, signal.SIGKILL)
        return await process.wait()


def signal_child(process: Process, number: signal.Signals) -> None:
    """Send a signal to a child that may have ended already."""
    # Not Process.send_signal: it may reap the child before asyncio does, and lose its exit status.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _prepare_child(death_signal: signal.Signals, umask: int) -> Callable[[], None] | None:
    """Combine the steps between fork and exec. The mask is one of them since uvloop takes no `umask`."""
    die_with_parent = _die_with_parent(death_signal)
    if umask == -1:
        return die_with_parent

    def in_child() -> None:
        os.umask(umask)
        if die_with_parent is not None:
            die_with_parent()

    return in_child


def _die_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    # Looked up here: between fork and exec nothing may be imported or loaded.
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, int(death_signal))
        # The parent may have died before the call above.
        if os.getppid() != parent:
            os._exit(1)

    return in_child
