"""Run the client's commands: `submit`, `tail`, `cancel`, `jobs` and `dead-letters`, from options to an exit status.

Each failure is one sentence on stderr and a status of its own (gateway/client/model/exit_status.py). Not here: the
gateway and its key (gateway_access.py), the way to a job's end (following.py), and dead letters (letter_actions.py).
"""

import io
import json
import os
import secrets
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import BinaryIO, TextIO

from gateway.client.arguments import STDIN, request_of
from gateway.client.connection import GatewayConnection
from gateway.client.following import follow, output_for
from gateway.client.gateway_access import connect, job_id_of, references
from gateway.client.letter_actions import run_action
from gateway.client.model.exit_status import ExitStatus, of_error
from gateway.client.model.table import table
from gateway.client.model.text import one_line
from gateway.client.terminal import Console, EventLines
from shared.config.settings import Settings, colour_is_wanted, load_settings, terminal_is_dumb
from shared.model.errors import GatewayRefused, InvalidRequest, TailraceError
from shared.model.events import START
from shared.model.text import is_whole

_NAMED = 10


def run(options: Namespace) -> int:
    """Run the client's command in `options`; return the process's exit status."""
    console = Console(_raw(sys.stdout), _raw(sys.stderr), colour=colour_is_wanted(), escapes=not terminal_is_dumb())
    try:
        return _run(options, console)
    except OSError as error:
        # Otherwise Python would try to write the rest of the buffer at its exit, and complain.
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return ExitStatus.BROKEN_PIPE
        console.fail(f"The output can't be written: {error.strerror}.")
        return ExitStatus.USAGE


def _raw(stream: TextIO | None) -> BinaryIO:
    return io.BytesIO() if stream is None else stream.buffer  # None: the parent process has closed it


def _run(options: Namespace, console: Console) -> int:
    try:
        settings = load_settings()
        with connect(options, settings, console) as connection:
            return _COMMANDS[options.command](options, settings, connection, console)
    except TailraceError as error:
        console.fail(str(error))
        return of_error(error)
    except KeyboardInterrupt:
        console.end_line()
        return ExitStatus.INTERRUPTED


def _submit(options: Namespace, settings: Settings, connection: GatewayConnection, console: Console) -> int:
    prompt = _prompt(options.prompt)
    model = options.model or _only_model(settings, connection)
    key = options.idempotency_key or secrets.token_hex(16)
    submit = partial(connection.submit, request_of(options, prompt, model), key)
    try:
        job_id = submit()
    except KeyboardInterrupt:
        again = f"the same command with --idempotency-key {shlex.quote(key)}"
        console.note(f"Whether the gateway has taken the job is not known; {again} makes no second one.")
        raise
    if options.detach:
        console.write(f"{job_id}\n")
        return ExitStatus.COMPLETE
    return follow(job_id, START, output_for(options, console), connection, console, submit)


def _prompt(words: list[str]) -> str:
    if words not in ([], [STDIN]):
        prompt = " ".join(words)
    elif sys.stdin is None or (not words and sys.stdin.isatty()):
        raise InvalidRequest("The prompt is missing: give it as an argument or pipe it in.", param="prompt")
    else:
        prompt = _read_stdin()
    if not is_whole(prompt):
        raise InvalidRequest("The prompt must be UTF-8.", param="prompt")
    if not prompt.strip():
        raise InvalidRequest("The prompt is empty.", param="prompt")
    return prompt


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode(errors="surrogateescape").rstrip("\n")  # as the arguments are
    except OSError as error:
        raise InvalidRequest(f"The prompt can't be read from stdin: {error.strerror}.", param="prompt") from None


def _only_model(settings: Settings, connection: GatewayConnection) -> str:
    models = list(settings.served_models) or connection.models()
    if len(models) != 1:
        some = ", ".join(map(one_line, models[:_NAMED])) + (" …" if len(models) > _NAMED else "")
        raise InvalidRequest(f"Name a model with --model; the gateway serves: {some or 'none'}.", param="model")
    return models[0]


def _tail(options: Namespace, settings: Settings, connection: GatewayConnection, console: Console) -> int:
    (reference,) = references(options)
    output = EventLines(console) if options.events else output_for(options, console)
    return follow(job_id_of(reference, connection), options.cursor or START, output, connection, console)


def _cancel(options: Namespace, settings: Settings, connection: GatewayConnection, console: Console) -> int:
    worst: int = ExitStatus.COMPLETE
    for reference in references(options):
        try:
            job_id = job_id_of(reference, connection)
            job = connection.cancel(job_id)
        except GatewayRefused as error:
            console.fail(str(error))
            worst = worst or of_error(error)
        else:
            console.write(f"{job_id} {one_line(str(job.get('status')))}\n")
    return worst


def _jobs(options: Namespace, settings: Settings, connection: GatewayConnection, console: Console) -> int:
    found = connection.jobs(options.status, options.limit)
    if options.json:
        for job in found:
            console.write(json.dumps(job, ensure_ascii=True) + "\n")
    elif jobs := list(found):
        console.write(table(jobs, datetime.now(UTC)))
    return ExitStatus.COMPLETE


def _dead_letters(options: Namespace, settings: Settings, connection: GatewayConnection, console: Console) -> int:
    return run_action(options, connection, console)


_COMMANDS: Mapping[str, Callable[[Namespace, Settings, GatewayConnection, Console], int]] = {
    "submit": _submit,
    "tail": _tail,
    "cancel": _cancel,
    "jobs": _jobs,
    "dead-letters": _dead_letters,
}
