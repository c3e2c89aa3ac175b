"""Run the command line: `tailrace up`, `tailrace serve`, `tailrace worker`, and the client's commands.

`up` uses the supervisor and `serve` uses server.py; the worker is another program. The client's commands have exit
statuses of their own. The others end with 0, with 2 and one sentence when the settings or the machine are wrong, or
with 1 for a defect. Not here: the programs themselves.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import structlog
import uvloop

from gateway.admission.development_key import development_key
from gateway.client.arguments import COMMANDS, add_commands
from gateway.client.commands import run
from gateway.model.address import LOCAL_HOSTS, base_url, bracketed
from gateway.supervisor import Program, Supervisor
from shared.config.route_settings import SCRIPTED_URL
from shared.config.settings import Settings, environment_notes, load_settings
from shared.model.errors import StartupError, Unavailable
from shared.model.redaction import redact
from shared.model.routes import Continuation
from shared.process.clock import SystemClock
from shared.process.embedded_valkey import EmbeddedValkey
from shared.process.ports import free_port, hold_port, port_taken
from shared.process.ready import report_ready
from shared.telemetry.logs import configure_logs, log_notes, wants_console

LOCAL_MODEL = "smollm2-135m-instruct"
SCRIPTED_MODEL = "scripted"

# -P: a package called `worker` in the current folder must not be imported instead of Tailrace's.
_PYTHON = (sys.executable, "-P", "-m")
_START_S = 30.0
_MODEL_STOP_S = 3.0
# The time that a draining gateway or worker needs beyond `drain_s`, to notify its readers and to hand back its jobs.
_STOP_MARGIN_S = 8.0

log = structlog.get_logger()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the process's exit status."""
    options = _parser().parse_args(argv)
    if options.command in COMMANDS:
        return run(options)
    try:
        if options.command == "worker":
            return _become_worker()
        settings = load_settings()
        configure_logs(settings.log_level, settings.log_format)
        if options.command == "serve":
            log_notes(environment_notes())
            return uvloop.run(_serve(settings, options.ready_fd, share_port=options.share_port))
        return asyncio.run(up(settings))
    except (StartupError, Unavailable) as error:
        print(f"tailrace: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tailrace",
        description="A self-hosted, streaming-first gateway between web chat frontends and language models.",
        epilog="Settings come from TAILRACE_* variables and from tailrace.toml; shared/README.md lists them.",
    )
    parser.add_argument("--version", action="version", version=f"tailrace {version('tailrace')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser(
        "up",
        help="run everything on this machine: Valkey, a local model, gateways and workers",
        description="Run everything on this machine: gateways and workers; an embedded Valkey, unless "
        "TAILRACE_REDIS_URL is set; a small local model, unless TAILRACE_UPSTREAM_URL, OPENAI_BASE_URL or "
        "TAILRACE_PROVIDERS is set. "
        "Ctrl-C stops it all.",
    )
    serve = commands.add_parser(
        "serve",
        help="run one gateway against TAILRACE_REDIS_URL",
        description="Run one gateway: the HTTP process. It needs TAILRACE_REDIS_URL. SIGTERM drains it.",
    )
    serve.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    serve.add_argument("--share-port", action="store_true", help=argparse.SUPPRESS)
    commands.add_parser(
        "worker",
        help="run one worker against TAILRACE_REDIS_URL",
        description="Run one worker: the process that calls the models. It needs TAILRACE_REDIS_URL and an upstream. "
        "SIGTERM drains it.",
    )
    add_commands(commands)
    return parser


def _become_worker() -> int:
    # Not imported: gateway and worker must not depend on each other.
    os.execv(sys.executable, [*_PYTHON, "worker"])  # noqa: S606


async def _serve(settings: Settings, ready_fd: int | None, *, share_port: bool) -> int:
    if settings.redis_url is None:
        raise StartupError(
            "TAILRACE_REDIS_URL is not set; `tailrace up` brings its own Valkey, `tailrace serve` does not."
        )
    key = development_key(settings)
    if key is not None:
        metrics_open = settings.metrics_open is not False
        update = {"api_keys": (_entry(key),), "metrics_open": metrics_open, "hosts": _development_hosts(settings)}
        settings = settings.model_copy(update=update)
        print(f"No API key is configured. This one works on this machine: {key}", flush=True)
    # Imported here: it is slow, and the client's commands don't need it.
    from gateway import server  # noqa: PLC0415

    return await server.serve(settings, ready=partial(report_ready, ready_fd), share_port=share_port)


def _entry(key: str) -> str:
    return f"{key}:dev:admin"


def _development_hosts(settings: Settings) -> tuple[str, ...]:
    """Return the hosts that are answered without API keys: a page of another site must not pass as this gateway's."""
    return settings.hosts or tuple(sorted(LOCAL_HOSTS | {bracketed(settings.host)}))


def choose_port(settings: Settings) -> int:
    """Return the gateway's port; for 0 a free one.

    Raises:
        StartupError: it is in use, or can't be used.
    """
    host, port = settings.host, settings.port
    try:
        if port == 0:
            return free_port(host)
        taken = port_taken(host, port)
    except OSError as error:
        raise StartupError(f"The gateway can't listen on {host}, port {port}: {error.strerror}.") from error
    if taken:
        raise StartupError(f"Port {port} on {host} is in use; set TAILRACE_PORT to another one (0: any free one).")
    return port


@contextmanager
def kept_port(settings: Settings) -> Iterator[int]:
    """Yield the gateways' port; with several gateways, hold it, so that no other program gets it during a restart.

    Raises:
        StartupError: it is in use, or can't be used.
    """
    port = choose_port(settings)
    if settings.gateways == 1:
        yield port
        return
    try:
        holder = hold_port(settings.host, port)
    except OSError as error:
        raise StartupError(f"The gateways can't share {settings.host}, port {port}: {error.strerror}.") from error
    with holder:
        yield port


@dataclass(frozen=True, slots=True)
class WorkersUpstream:
    """Describe the workers' upstream: their settings, and for the banner a model's name and a place."""

    env: Mapping[str, str]
    model: str
    place: str


async def up(settings: Settings) -> int:
    """Run `tailrace up`: everything on this machine, until a signal.

    Raises:
        StartupError: a part can't start; then nothing is left running.
    """
    key = development_key(settings)
    with kept_port(settings) as port:
        await _up(settings, key, port)
    return 0


async def _up(settings: Settings, key: str | None, port: int) -> None:
    async with Supervisor(SystemClock()) as supervisor:
        env = {"TAILRACE_LOG_FORMAT": "console" if wants_console(settings.log_format) else "json"}
        if settings.redis_url is None:
            valkey = EmbeddedValkey(Path(settings.data_dir), max_memory=settings.max_memory)
            await supervisor.start(valkey)
            env["TAILRACE_REDIS_URL"] = valkey.url
        upstream = await _start_upstream(settings, supervisor)
        env |= upstream.env
        await supervisor.start(
            *(_part(settings, f"worker {n}", ("worker",), env) for n in range(1, settings.workers + 1))
        )
        env = env | {"TAILRACE_HOST": settings.host, "TAILRACE_PORT": str(port)}
        if key is not None:
            env["TAILRACE_API_KEYS"] = _entry(key)
            env["TAILRACE_METRICS_OPEN"] = str(settings.metrics_open is not False)
            env["TAILRACE_HOSTS"] = ",".join(_development_hosts(settings))
        program = ("gateway", "serve", *(("--share-port",) if settings.gateways > 1 else ()))
        await supervisor.start(
            *(_part(settings, f"gateway {n}", program, env) for n in range(1, settings.gateways + 1))
        )
        print(banner(settings.host, port, key, upstream), flush=True)
        await supervisor.watch()


def _part(settings: Settings, name: str, program: Sequence[str], env: Mapping[str, str]) -> Program:
    return Program(
        name,
        (*_PYTHON, *program),
        env,
        start_s=_START_S,
        stop_s=settings.drain_delay_s + settings.drain_s + _STOP_MARGIN_S,
    )


async def _start_upstream(settings: Settings, supervisor: Supervisor) -> WorkersUpstream:
    """Return the configured upstream; else start the local model or, if that can't run, the scripted provider."""
    if settings.upstream_url == SCRIPTED_URL:
        return WorkersUpstream({}, SCRIPTED_MODEL, "scripted answers, no model")
    if settings.providers:
        table = settings.route_table()
        return WorkersUpstream({}, (*table.named, "<model>")[0], ", ".join(table.upstreams))
    if settings.upstream_url is not None:
        return WorkersUpstream({}, settings.models[0] if settings.models else "<model>", redact(settings.upstream_url))
    port = free_port()
    program = (*_PYTHON, "worker.local_model", "--name", LOCAL_MODEL, "--port", str(port))
    try:
        await supervisor.start(Program("local model", program, {}, start_s=_START_S, stop_s=_MODEL_STOP_S))
    except StartupError as error:
        log.warning("local_model.missing", why=str(error))
        place = "scripted answers, since the local model can't run here; set TAILRACE_UPSTREAM_URL for a real one"
        return WorkersUpstream(_upstream_env(SCRIPTED_URL, SCRIPTED_MODEL), SCRIPTED_MODEL, place)
    # llama.cpp continues an assistant's message that comes last.
    env = {"TAILRACE_UPSTREAM_CONTINUATION": Continuation.PREFILL.value}
    return WorkersUpstream(
        {**_upstream_env(f"http://127.0.0.1:{port}/v1", LOCAL_MODEL), **env}, LOCAL_MODEL, "on this machine"
    )


def _upstream_env(url: str, model: str) -> dict[str, str]:
    # OPENAI_API_KEY is a key for another API, and must not be sent to this upstream.
    return {"TAILRACE_UPSTREAM_URL": url, "TAILRACE_UPSTREAM_API_KEY": "none", "TAILRACE_MODELS": model}


def banner(host: str, port: int, key: str | None, upstream: WorkersUpstream) -> str:
    """Return the text that `tailrace up` prints when everything is ready."""
    url = base_url(host, port)
    page = f"{url}/#key={key}" if key else f"{url}/ (it asks for an API key)"
    return f"""
Tailrace is running at {url}

  Chat    {page}
  Model   {upstream.model} ({upstream.place})
  Try     curl -N {url}/v1/chat/completions \\
            -H 'Authorization: Bearer {key or "<key>"}' -H 'Content-Type: application/json' \\
            -d '{{"model": "{upstream.model}", "stream": true, "messages": [{{"role": "user", "content": "Hello!"}}]}}'

Ctrl-C stops everything; a second Ctrl-C stops it at once.
"""
