"""Run a client: a process that carries out one function after the other and answers each with a line of JSON.

A function that takes too long ends the process; the next one starts it again. Not here: the expected answers.
"""

import asyncio
import json
import os
import shutil
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from shared.process.child import stop_child
from tests.zoo.install import Environment

SCRIPTS = Path(__file__).parent / "scripts"
START_S = 45.0
FUNCTION_S = 45.0
_STOP_S = 3.0
_LAST_LINES = 12
_QUIET = {
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "NO_COLOR": "1",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    # Nothing that a client wants to report leaves this machine.
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1",
}


class ClientFailedError(Exception):
    """A client did not answer. The message has the end of its stderr."""


@dataclass(frozen=True)
class Program:
    """A client's script and the mode in which it runs."""

    environment: Environment
    script: str
    mode: str

    @property
    def argv(self) -> list[str]:
        """Return the command that starts it."""
        if self.environment.is_node:
            return ["node", str(self.environment.folder / self.script), self.mode]
        return [str(self.environment.folder / "bin/python"), "-P", str(SCRIPTS / self.script), self.mode]

    def prepare(self) -> None:
        """Copy the scripts of a Node client to its packages, for imports are resolved from there."""
        if self.environment.is_node:
            for script in SCRIPTS.glob("*.mjs"):
                shutil.copy(script, self.environment.folder / script.name)


def environment_of(base_url: str, key: str, home: Path) -> dict[str, str]:
    """Return the environment variables of every client."""
    secret = ("TAILRACE_", "OPENAI_", "ANTHROPIC_")
    ours = {name: value for name, value in os.environ.items() if not name.upper().startswith(secret)}
    return {
        **ours,
        **_QUIET,
        "HOME": str(home),
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_BASE": base_url,
        "OPENAI_API_KEY": key,
        "PYTHONPATH": str(SCRIPTS),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


class Session:
    """A client's process, started when it is first needed."""

    def __init__(self, program: Program, env: dict[str, str], log: Path) -> None:
        self._program = program
        self._env = env
        self._log = log
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def call(self, function: str, model: str) -> dict[str, Any]:
        """Carry out one function and return its answer.

        Raises:
            ClientFailedError: no answer came in time, or the client ended.
        """
        try:
            if self._process is None:
                await self._start()
            return await self._exchange({"function": function, "model": model}, FUNCTION_S)
        except (TimeoutError, ConnectionError) as error:
            await self._stop()
            raise ClientFailedError(f"{type(error).__name__} {error}\n{self.written()}") from error

    def written(self) -> str:
        """Return the end of the client's stderr."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_LAST_LINES:])

    async def _start(self) -> None:
        self._program.prepare()
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._program.argv,
                env=self._env,
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                cwd=self._log.parent,
                start_new_session=True,
            )
        await self._read(START_S)

    async def _exchange(self, question: dict[str, str], seconds: float) -> dict[str, Any]:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        await self._process.stdin.drain()
        return await self._read(seconds)

    async def _read(self, seconds: float) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), seconds)
        if not line:
            raise ConnectionError("the client ended")
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            raise ConnectionError(f"the client said {line!r}") from None
        return answer

    async def _stop(self) -> None:
        if self._process is not None:
            await stop_child(self._process, _STOP_S)
            self._process = None
