"""Run the client's commands: `submit`, `tail`, `cancel`, `jobs` and `dead-letters`, from options to an exit status.

Each failure is one sentence on stderr and a status of its own (gateway/client/model/exit_status.py). Not here: requests
to the gateway (connection.py), the meaning of events (gateway/client/model/transcript.py), and output (terminal.py).
"""

import io
import json
import os
import secrets
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from typing import BinaryIO, TextIO

import httpx2

from gateway.admission.development_key import kept_development_key
from gateway.client.arguments import ALL, LISTED, STDIN, filters_of, request_of
from gateway.client.connection import Connection, Json, address_of
from gateway.client.model.exit_status import ExitStatus, of_end, of_error
from gateway.client.model.patience import Patience
from gateway.client.model.reference import Reference
from gateway.client.model.table import table, table_of_letters
from gateway.client.model.text import one_line, safe
from gateway.client.model.transcript import End, Proof, Transcript
from gateway.client.model.vectors import as_lines, vectors_of
from gateway.client.terminal import AsItComes, AtTheEnd, Console, EventLines, OnScreen, Output
from gateway.http.address import base_url, is_loopback
from shared.config.settings import Settings, colour_is_wanted, load_settings, terminal_is_dumb
from shared.model.errors import (
    AnswerNotWhole,
    GatewayGarbage,
    GatewayRefused,
    InvalidRequest,
    JobNotFound,
    StartupError,
    TailraceError,
)
from shared.model.events import START, EventId, EventType
from shared.model.sse_parser import SentEvent
from shared.model.text import is_whole
from shared.process.clock import SystemClock

PATIENCE_S = 60.0
_NAMED = 10
# The event for a job that is gone: the same that a reader gets for a log that is gone.
_FORGOTTEN = SentEvent(EventType.GAP, b"{}", None)


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
        with _connect(options, settings, console) as connection:
            return _COMMANDS[options.command](options, settings, connection, console)
    except TailraceError as error:
        console.fail(str(error))
        return of_error(error)
    except KeyboardInterrupt:
        console.end_line()
        return ExitStatus.INTERRUPTED


def _connect(options: Namespace, settings: Settings, console: Console) -> Connection:
    first_s, later_s = (0.0, PATIENCE_S) if options.patience is None else (options.patience, options.patience)
    patience = Patience(first_s, later_s)
    references = _references(options)
    if options.command == "tail" and (token := references[0].token) is not None:
        # Such a link is valid without a key, at any gateway; no key is sent there.
        address = address_of(references[0].gateway or _url(settings))
        return Connection(address, None, patience, SystemClock(), console.note, token=token)
    address = address_of(_url(settings))
    for reference in references:
        _check_gateway(reference, address)
    return Connection(address, _key(address, settings), patience, SystemClock(), console.note)


def _references(options: Namespace) -> list[Reference]:
    """Read the references that `tail` or `cancel` was given."""
    if options.command == "tail":
        return [options.job or options.chat]
    return [*options.jobs, *options.chat] if options.command == "cancel" else []


def _check_gateway(reference: Reference, address: httpx2.URL) -> None:
    """Check that the key is sent to its own gateway only.

    Raises:
        StartupError: the job's address is one of another gateway.
    """
    if reference.gateway is None:
        return
    named = address_of(reference.gateway)
    if (named.scheme, named.netloc) != (address.scheme, address.netloc):
        raise StartupError(
            f"That is an address at {named.scheme}://{named.netloc.decode('ascii')}: set TAILRACE_URL to it, and "
            "TAILRACE_API_KEY to a key of its own."
        )


def _job_id(reference: Reference, connection: Connection) -> str:
    """Find the job that a reference means.

    Raises:
        GatewayRefused: the chat has no answer yet.
    """
    if reference.job_id is not None:
        return reference.job_id
    chat_id = str(reference.chat_id)
    job_id = connection.job_of_chat(chat_id)
    if job_id is None:
        raise GatewayRefused(f"There is no answer in the chat {one_line(chat_id)}.", answered=httpx2.codes.NOT_FOUND)
    return job_id


def _url(settings: Settings) -> str:
    if settings.url is not None:
        return settings.url
    if settings.port == 0:
        raise StartupError("TAILRACE_PORT is 0: set TAILRACE_URL to the address that `tailrace up` has printed.")
    return base_url(settings.host, settings.port)


def _key(address: httpx2.URL, settings: Settings) -> str:
    """Return the key for this gateway: the configured one; the development key is for this machine only."""
    if settings.api_key is not None:
        return settings.api_key.get_secret_value()
    if settings.api_keys or not is_loopback(address.host):
        raise StartupError("TAILRACE_API_KEY is not set, and this gateway requires one.")
    return kept_development_key(settings.data_dir)


def _submit(options: Namespace, settings: Settings, connection: Connection, console: Console) -> int:
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
    return _follow(job_id, START, _output(options, console), connection, console, submit)


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


def _only_model(settings: Settings, connection: Connection) -> str:
    models = list(settings.served_models) or connection.models()
    if len(models) != 1:
        some = ", ".join(map(one_line, models[:_NAMED])) + (" …" if len(models) > _NAMED else "")
        raise InvalidRequest(f"Say which model with --model; the gateway serves: {some or 'none'}.", param="model")
    return models[0]


def _tail(options: Namespace, settings: Settings, connection: Connection, console: Console) -> int:
    (reference,) = _references(options)
    output = EventLines(console) if options.events else _output(options, console)
    return _follow(_job_id(reference, connection), options.cursor or START, output, connection, console)


def _output(options: Namespace, console: Console) -> Output:
    if console.is_terminal:
        return OnScreen(console)
    return AsItComes(console) if options.stream else AtTheEnd(console)


def _follow(
    job_id: str,
    cursor: EventId,
    output: Output,
    connection: Connection,
    console: Console,
    submit: Callable[[], str] | None = None,
) -> int:
    """Read a job to its end and write its answer; return the exit status.

    A gateway may forget a job meanwhile, for example if its Redis was killed. The job is submitted again if possible.
    """
    transcript = Transcript(cursor)
    try:
        try:
            _read(job_id, transcript, output, connection)
        except GatewayRefused as error:
            if submit is None or error.told != JobNotFound.code:
                raise
            job_id = submit()
            output.heard(_FORGOTTEN, transcript.apply(_FORGOTTEN), transcript)
            _read(job_id, transcript, output, connection)
    except KeyboardInterrupt:
        console.note(f"The job goes on. To read it: tailrace tail {job_id}; to end it: tailrace cancel {job_id}")
        raise
    except AnswerNotWhole as error:
        raise AnswerNotWhole(f"{error} To read it: tailrace tail {job_id}") from None
    if transcript.end is None:  # it had ended, and nothing follows the cursor
        end = _end_of(job_id, connection)
        return _ended(job_id, end.type, end.data, console)
    if transcript.end.type is EventType.COMPLETED:
        if transcript.proof is Proof.BROKEN or (transcript.proof is Proof.PARTIAL and cursor == START):
            raise AnswerNotWhole(f"Checksum mismatch for {job_id}: the answer is incomplete.")
        output.complete(transcript)
        proof = transcript.end.data.get("result")
        if isinstance(proof, Mapping):
            _write_result(job_id, proof, output, connection, console)
        else:
            _remark(job_id, transcript, console)
    return _ended(job_id, transcript.end.type, transcript.end.data, console)


def _read(job_id: str, transcript: Transcript, output: Output, connection: Connection) -> None:
    with closing(connection.events(job_id, transcript.cursor)) as events:
        for event in events:
            output.heard(event, transcript.apply(event), transcript)


def _end_of(job_id: str, connection: Connection) -> End:
    """Read the end of an ended job from its log: a link opens nothing else."""
    transcript = Transcript()
    for event in connection.events(job_id, START):
        transcript.apply(event)
    if transcript.end is None:
        raise GatewayGarbage(f"The gateway sent no events of {job_id}, although it has ended.")
    return transcript.end


def _write_result(job_id: str, proof: Json, output: Output, connection: Connection, console: Console) -> None:
    """Write an embedding job's vectors to a pipe, one a line; on a terminal, explain how to get them."""
    if console.is_terminal:
        console.note(f"{job_id}, {proof.get('inputs')} vectors. To have them: tailrace tail {job_id} > FILE")
    elif not isinstance(output, EventLines):
        for line in as_lines(vectors_of(connection.result(job_id), proof)):
            console.write(line)


def _remark(job_id: str, transcript: Transcript, console: Console) -> None:
    """Note on stderr anything that a person should know of a complete answer."""
    end = transcript.end.data if transcript.end else {}
    if end.get("finish_reason") == "length":
        console.note("The answer was cut off: length.")
    calls = transcript.tool_calls
    if calls and not console.is_terminal:
        console.note(
            f"The model calls tools ({', '.join(call.name for call in calls)}): tailrace tail {job_id} --events"
        )
    if console.is_terminal:
        usage = end.get("usage")
        tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
        console.note(job_id if tokens is None else f"{job_id}, {tokens} tokens")


def _ended(job_id: str, how: str, data: Json, console: Console) -> int:
    """Return the exit status for a job that ended so, and write the reason if it is not a success."""
    reason = data.get("finish_reason")
    status = of_end(how, reason)
    if how != EventType.COMPLETED:
        error = data.get("error")
        said = error.get("message") if isinstance(error, Mapping) else None
        console.fail(f"The job {job_id} {_ENDS.get(how, how)}" + (f": {said}" if isinstance(said, str) else "."))
    elif status is not ExitStatus.COMPLETE:
        console.fail(f"The answer was cut off: {reason}.")
    return status


_ENDS = {
    EventType.FAILED.value: "failed",
    EventType.CANCELLED.value: "was cancelled",
    EventType.EXPIRED.value: "has expired",
}


def _cancel(options: Namespace, settings: Settings, connection: Connection, console: Console) -> int:
    worst: int = ExitStatus.COMPLETE
    for reference in _references(options):
        try:
            job_id = _job_id(reference, connection)
            job = connection.cancel(job_id)
        except GatewayRefused as error:
            console.fail(str(error))
            worst = worst or of_error(error)
        else:
            console.write(f"{job_id} {one_line(str(job.get('status')))}\n")
    return worst


def _jobs(options: Namespace, settings: Settings, connection: Connection, console: Console) -> int:
    found = connection.jobs(options.status, options.limit)
    if options.json:
        for job in found:
            console.write(json.dumps(job, ensure_ascii=True) + "\n")
    elif jobs := list(found):
        console.write(table(jobs, datetime.now(UTC)))
    return ExitStatus.COMPLETE


def _dead_letters(options: Namespace, settings: Settings, connection: Connection, console: Console) -> int:
    return _LETTER_ACTIONS[options.action](options, connection, console)


def _list_letters(options: Namespace, connection: Connection, console: Console) -> int:
    found = connection.dead_letters(filters_of(options), options.limit or LISTED)
    if options.json:
        for letter in found:
            console.write(json.dumps(letter) + "\n")
    elif letters := list(found):
        console.write(table_of_letters(letters, datetime.now(UTC)))
    return ExitStatus.COMPLETE


def _show_letter(options: Namespace, connection: Connection, console: Console) -> int:
    letter = connection.dead_letter(options.jobs[0])
    shown = json.dumps(letter, indent=None if options.json else 2)
    console.write((safe(shown) if console.is_terminal else shown) + "\n")
    return ExitStatus.COMPLETE


def _requeue_letters(options: Namespace, connection: Connection, console: Console) -> int:
    return _do(options, console, connection.requeue, connection.requeue_many)


def _delete_letters(options: Namespace, connection: Connection, console: Console) -> int:
    return _do(options, console, connection.delete, connection.delete_many)


def _do(
    options: Namespace,
    console: Console,
    one: Callable[[str], Json],
    many: Callable[[Mapping[str, str], int | None], Iterator[Json]],
) -> int:
    """Apply an action to the named dead letters, or to all that the options select; report each one."""
    filters = filters_of(options)
    if options.jobs and (filters or options.all or options.limit):
        raise InvalidRequest(f"Name the jobs, or say which with {ALL} and its like, not both.", param="JOB")
    if not (options.jobs or filters or options.all):
        raise InvalidRequest(f"Name the jobs, or say which with --tenant, --code, --model or {ALL}.", param="JOB")
    worst: int = ExitStatus.COMPLETE
    if not options.jobs:
        for told in many({**filters, "all": "true"}, options.limit):
            worst = _told(str(told.get("id")), told, options, console) or worst
    for job_id in options.jobs:
        try:
            told = one(job_id)
        except GatewayRefused as error:
            console.fail(str(error))
            worst = worst or of_error(error)
        else:
            _told(job_id, told, options, console)
    return worst


def _told(job_id: str, told: Json, options: Namespace, console: Console) -> int:
    """Report the outcome for one dead letter; return the exit status."""
    error = told.get("error") if told.get("id") == job_id else None
    if options.json:
        console.write(json.dumps(told) + "\n")
    elif isinstance(error, Mapping):
        console.fail(f"{one_line(job_id)}: {one_line(str(error.get('message')))}")
    else:
        # The answer for a single dead letter is the new job; for one of many it names the new job's id.
        now = "deleted" if told.get("deleted") else told.get("requeued_as") or told.get("id")
        console.write(f"{one_line(job_id)} {one_line(str(now))}\n")
    return ExitStatus.FAILED if isinstance(error, Mapping) else ExitStatus.COMPLETE


_LETTER_ACTIONS: Mapping[str, Callable[[Namespace, Connection, Console], int]] = {
    "list": _list_letters,
    "show": _show_letter,
    "requeue": _requeue_letters,
    "delete": _delete_letters,
}
_COMMANDS: Mapping[str, Callable[[Namespace, Settings, Connection, Console], int]] = {
    "submit": _submit,
    "tail": _tail,
    "cancel": _cancel,
    "jobs": _jobs,
    "dead-letters": _dead_letters,
}
