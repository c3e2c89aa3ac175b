"""`tailrace submit` and its like as a person or a script runs them: real processes, with a pipe or a terminal.

Also the prompts that script the upstream, and its answers. Not here: expectations (test_tailrace_*.py).
"""

import asyncio
import json
import os
import re
import signal
import termios
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from gateway.client.model.exit_status import ExitStatus
from tests.support.client import TIMEOUT_S, Client
from tests.support.processes import PYTHON
from tests.support.upstream import expected_text

END_S = 4 * TIMEOUT_S
"""How long a command may take, where the machine is busy and a worker was lost."""
ROWS, COLUMNS = 24, 80
NO_SUCH_JOB = "job_00000000000000000000000000"


class Ended(NamedTuple):
    """A command's output and exit status. A terminal's output includes stderr too."""

    status: int
    output: str
    errors: str


class Running:
    """A command that runs."""

    def __init__(self, process: Process, terminal: int | None) -> None:
        self.process = process
        self._terminal = terminal
        self.said = ""

    async def until(self, text: str, *, times: int = 1) -> str:
        """Wait until it has written this so many times; all that it has written."""
        async with asyncio.timeout(END_S):
            while self.said.count(text) < times:
                assert await self._more(), f"It ended without saying {text!r}: {self.said!r}"
        return self.said

    async def ended(self) -> Ended:
        """Wait for its end."""
        async with asyncio.timeout(END_S):
            while await self._more():
                pass
            errors = await self.process.stderr.read() if self.process.stderr is not None else b""
            return Ended(await self.process.wait(), self.said, errors.decode())

    async def status(self) -> tuple[int, str]:
        """Wait for its end without reading its output; return its exit status and its stderr."""
        assert self.process.stderr is not None
        async with asyncio.timeout(END_S):
            errors = await self.process.stderr.read()
            return await self.process.wait(), errors.decode()

    def leave(self) -> None:
        """Close the pipe that it writes to."""
        # The only way that asyncio has.
        transport = self.process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
        transport.close()

    def press_ctrl_c(self) -> None:
        """SIGINT, as a terminal sends it."""
        self.process.send_signal(signal.SIGINT)

    async def _more(self) -> bool:
        if self._terminal is not None:
            data = await _read_terminal(self._terminal)
        else:
            assert self.process.stdout is not None
            data = await self.process.stdout.read(64 * 1024)
        self.said += data.decode()
        return bool(data)


class Tailrace:
    """The command line of a caller with this gateway and key."""

    def __init__(self, url: str, key: str | None = "sk-alice", **env: str) -> None:
        self._env = {"TAILRACE_URL": url, "TERM": "xterm", **env}
        if key is not None:
            self._env["TAILRACE_API_KEY"] = key

    @asynccontextmanager
    async def running(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        output: Path | None = None,
        terminal: bool = False,
        rows: int = ROWS,
    ) -> AsyncIterator[Running]:
        """`tailrace` with these arguments; it has ended when the block has. `terminal`: in a window of 80 columns."""
        if terminal:
            master, slave = os.openpty()
            termios.tcsetwinsize(slave, (rows, COLUMNS))
            process = await self._start(arguments, slave, slave, slave)
            os.close(slave)
        else:
            master = None
            stdout = PIPE if output is None else os.open(output, os.O_WRONLY)
            process = await self._start(arguments, DEVNULL if stdin is None else PIPE, stdout, PIPE)
            if stdout != PIPE:
                os.close(stdout)
        if stdin is not None:
            assert process.stdin is not None
            process.stdin.write(stdin)
            process.stdin.close()
        try:
            yield Running(process, master)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            if master is not None:
                os.close(master)

    async def __call__(self, *arguments: str, stdin: bytes | None = None, terminal: bool = False) -> Ended:
        """Run it to its end."""
        async with self.running(*arguments, stdin=stdin, terminal=terminal) as command:
            return await command.ended()

    async def _start(self, arguments: tuple[str, ...], stdin: int, stdout: int, stderr: int) -> Process:
        env = {**without_colour_settings(os.environ), **self._env}
        argv = (*PYTHON, "gateway", *arguments)
        return await asyncio.create_subprocess_exec(*argv, env=env, stdin=stdin, stdout=stdout, stderr=stderr)


def without_colour_settings(env: Mapping[str, str]) -> dict[str, str]:
    """Drop the developer's own preferences from the environment: they must not change a test."""
    return {name: value for name, value in env.items() if name not in ("NO_COLOR", "TERM")}


async def _read_terminal(descriptor: int) -> bytes:
    """Read the bytes written to the other side; empty once no process holds it."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
        return os.read(descriptor, 64 * 1024).replace(b"\r\n", b"\n")
    except OSError:  # Linux says EIO
        return b""
    finally:
        loop.remove_reader(descriptor)


def screen(written: str) -> str:
    """Return the text on a terminal after all this, as far as our own escape sequences go; colours are left out."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[\d*[A-Za-z]|.|\n", written):
        if token == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif token == "\r":
            column = 0
        elif token.endswith("A") and len(token) > 1:
            row -= int(token[2:-1])
            assert row >= 0, "above the command's first line"
        elif token == "\x1b[J":
            lines[row:] = [lines[row][:column]]
        elif not token.endswith("m") or len(token) == 1:
            assert not token.startswith("\x1b"), token
            if column == COLUMNS:
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            lines[row] = lines[row][:column].ljust(column) + token
            column += 1
    return "\n".join(lines)


def script(**fields: Any) -> str:
    """Return a prompt that scripts the upstream."""
    return json.dumps({"script": fields})


def answer(prompt: str) -> str:
    """Return the upstream's answer to a prompt, as a line."""
    return expected_text({"messages": [{"role": "user", "content": prompt}]}) + "\n"


async def detached(tailrace: Tailrace, *arguments: str) -> str:
    """Submit, and don't wait; the job's id."""
    ended = await tailrace("submit", "--detach", *arguments)
    assert ended.status == ExitStatus.COMPLETE, ended
    return ended.output.strip()


async def submitted(client: Client, model: str, prompt: str) -> str:
    """Submit a job without a command, which would take its time; return its id."""
    answer = await client.post("/v1/jobs", {"model": model, "messages": [{"role": "user", "content": prompt}]})
    assert answer.status == 202
    return str(answer.json()["id"])


def one_sentence(ended: Ended) -> str:
    """Return its message on stderr: one line, and no traceback."""
    assert ended.errors.startswith("tailrace: ")
    assert ended.errors.count("\n") == 1
    return ended.errors.removeprefix("tailrace: ").rstrip()
