"""The README's settings for proxies, run with the proxies: nginx, HAProxy and Caddy (Debian packages)."""

import asyncio
import re
import shutil
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.config.settings import Settings
from tests.support.client import TIMEOUT_S, Client
from tests.support.docs import DOCS
from tests.support.gateway import Gateway, running_gateway, until
from tests.support.log_writer import PROMPT, JobSide, job_side
from tests.support.ports import reserve_port

CHAT, JOBS = "/v1/chat/completions", "/v1/jobs"
BODY: dict[str, Any] = {"model": "scripted", "messages": PROMPT}
STREAM = {**BODY, "stream": True}
ENOUGH = 6
"""Requests of which some would go to either gateway."""
SURE = 25
"""The same, if a proxy chooses by chance."""


def of_nginx(config: str, folder: Path) -> tuple[list[str], str]:
    paths = " ".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = f"pid {folder}/pid; error_log stderr; events {{}} http {{ access_log off; {paths} {config} }}"
    return ["nginx", "-p", str(folder), "-c", str(folder / "config"), "-g", "daemon off;"], whole


def of_haproxy(config: str, folder: Path) -> tuple[list[str], str]:
    return ["haproxy", "-db", "-q", "-f", str(folder / "config")], config


def of_caddy(config: str, folder: Path) -> tuple[list[str], str]:
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "config")]
    return command, "{\n    admin off\n    auto_https off\n}\n" + config


PROXIES: dict[str, Callable[[str, Path], tuple[list[str], str]]] = {
    "nginx": of_nginx,
    "haproxy": of_haproxy,
    "caddy": of_caddy,
}
ALL = [
    pytest.param(
        name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed (a Debian package)")
    )
    for name in PROXIES
]


@asynccontextmanager
async def running_proxy(name: str, gateways: list[int], folder: Path) -> AsyncIterator[Client]:
    """Start the proxy with the README's settings, before these gateways; provide its client."""
    found = re.search(rf"```{name}\n(.*?)```", DOCS, re.DOTALL)
    assert found is not None
    port, config = reserve_port(), found[1]
    for number, gateway in enumerate(gateways, 1):
        config = config.replace(f"10.0.0.{number}:8080", f"127.0.0.1:{gateway}")
    config = re.sub(
        r"(listen |bind :|^:)80\b",
        lambda match: match[1].replace(":", "127.0.0.1:") + str(port),
        config,
        flags=re.MULTILINE,
    )
    if name == "caddy":
        config = config.replace("127.0.0.1:", "http://127.0.0.1:", 1)
    command, whole = PROXIES[name](config, folder)
    (folder / "config").write_text(whole)
    process = await asyncio.create_subprocess_exec(
        *command, env={"HOME": str(folder), "PATH": "/usr/sbin:/usr/bin:/bin"}
    )
    try:
        await answers(process, port)
        yield Client(port)
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), TIMEOUT_S)


async def answers(process: Process, port: int) -> None:
    """Wait until the proxy takes connections."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            assert process.returncode is None, "the proxy does not take its settings"
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            writer.close()
            return


@pytest.mark.parametrize("name", ALL)
async def test_streams_drains_breaks_and_departures_pass_a_proxy(name: str, settings: Settings, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(running_gateway(settings)) for _ in range(2)]
        writing = await stack.enter_async_context(job_side(settings))
        ports = [gateway.client.port for gateway in gateways]
        client = await stack.enter_async_context(running_proxy(name, ports, tmp_path))
        await ready(client)
        await a_token_passes_at_once(client, writing)
        await a_cut_off_answer_does_not_look_whole(client, writing, gateways)
        await a_client_that_leaves_is_noticed(client, writing, gateways)
        await new_work_goes_to_the_other_gateway(client, gateways[0], delay=name == "caddy")


async def ready(client: Client) -> None:
    """Wait until the proxy has found its gateways."""
    async with asyncio.timeout(TIMEOUT_S):
        while (await client.get("/health/live")).status != 200:
            pass


async def a_token_passes_at_once(client: Client, writing: JobSide) -> None:
    async with client.calling(CHAT, STREAM) as call:
        log_writer = await writing.take()
        for word in ("Hello", " there", " again"):
            await log_writer.say(word)
            if word == "Hello":
                await call.read_head()
            while f'"{word}"'.encode() not in await call.frame():
                pass
        await log_writer.complete()
        assert (await call.rest()).endswith(b"data: [DONE]\n\n")
        assert call.complete


async def a_cut_off_answer_does_not_look_whole(client: Client, writing: JobSide, gateways: list[Gateway]) -> None:
    async with client.calling(CHAT, STREAM) as call:
        log_writer = await writing.take()
        await log_writer.say("Half an")
        await call.read_head()
        while b"Half an" not in await call.frame():
            pass
        (reader,) = [reader for gateway in gateways for reader in gateway.services.hub.readers]
        reader.break_off("This gateway is shutting down.")
        rest = await call.rest()
    assert b'"error"' in rest
    assert b"[DONE]" not in rest


async def a_client_that_leaves_is_noticed(client: Client, writing: JobSide, gateways: list[Gateway]) -> None:
    for body in (BODY, STREAM):
        async with client.calling(CHAT, body):
            await writing.take()
            await until(lambda: any(gateway.services.hub.readers for gateway in gateways))
        await until(lambda: not any(gateway.services.hub.readers for gateway in gateways))


async def new_work_goes_to_the_other_gateway(client: Client, leaving: Gateway, *, delay: bool) -> None:
    """With a `delay`, as `TAILRACE_DRAIN_DELAY_S` makes it, the proxy learns of it before anything is refused."""
    leaving.services.leaving = True
    healthy = 0 if delay else SURE
    async with asyncio.timeout(TIMEOUT_S):
        while healthy < SURE:
            assert (await client.post(JOBS, BODY)).status == 202
            healthy = healthy + 1 if (await client.get("/health/ready")).status == 200 else 0
    leaving.services.draining = True
    answers = [await client.post(JOBS, BODY) for _ in range(ENOUGH)]
    assert [answer.status for answer in answers] == [202] * ENOUGH
