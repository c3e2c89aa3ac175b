"""Parse the client's part of the command line: its commands, their options, and the request that they make.

argparse reports a mistake in an option, with exit status 2. Not here: reading stdin, settings, and all requests.
"""

import argparse
import json
import math
import textwrap
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Any

from gateway.client.model.exit_status import MEANINGS
from gateway.client.model.reference import PREFIXES, Reference, read_reference
from shared.model.errors import BadCursor
from shared.model.events import EventId, encode_data, parse_cursor
from shared.model.jobs import is_job_id
from shared.model.kinds import EMBEDDINGS
from shared.model.lifecycle import State
from shared.model.parents import is_parent_name

COMMANDS = ("submit", "tail", "cancel", "jobs", "dead-letters")
STDIN = "-"
ALL = "--all"
LISTED = 20
_COLUMNS = 80
# Fields of a job's body that have an option of their own, or deliberately none.
_NO_PARAM = {
    "messages": "the prompt and --system",
    "input": "--embed",
    "kind": "--embed",
    "model": "--model",
    "lane": "--lane",
    "timeout_s": "--timeout",
    "on_disconnect": "--on-disconnect",
    "abandon_after_s": "--abandon-after",
    "after": "--after",
}

_JOB = "its id (job_..., resp_..., chatcmpl-...), or an address of it"
_CHAT = "the answer that is being given in this chat of the AI SDK, or else the last one"
_STREAM = "write to a pipe as the text comes, not when it is proven; a text that is taken back is then an error"
EXIT_STATUSES = "exit status:\n" + "".join(f"  {status.value:<5}{meaning}\n" for status, meaning in MEANINGS.items())
_EPILOG = EXIT_STATUSES + "\nTAILRACE_URL and TAILRACE_API_KEY say which gateway; unset: the one on this machine.\n"


_REQUEUED = ("false", "true", "any")


# argparse's type of the result of `add_subparsers` is private.
def add_commands(commands: "argparse._SubParsersAction[ArgumentParser]") -> None:
    """Add the client's commands."""
    patience = _patience(None)
    _add_submit(commands, patience)
    _add_tail(commands, patience)
    cancel = _add(
        commands,
        "cancel",
        patience,
        "cancel jobs",
        "Cancel jobs, also running ones: the upstream's connection is closed at once. Prints what each then is.",
    )
    which = cancel.add_mutually_exclusive_group(required=True)
    which.add_argument("jobs", nargs="*", type=_reference, default=[], metavar="JOB", help=_JOB)
    which.add_argument("--chat", type=_chat, action="append", default=[], metavar="ID", help=f"{_CHAT}; repeatable")
    jobs = _add(
        commands,
        "jobs",
        patience,
        "list your jobs",
        "List your jobs, newest first: as a table, or as JSON lines.",
    )
    states = [state.value for state in State]
    jobs.add_argument("--status", choices=states, metavar="STATUS", help=f"only those that are {', '.join(states)}")
    jobs.add_argument("--limit", type=_count, default=LISTED, metavar="N", help=f"at most so many (default: {LISTED})")
    jobs.add_argument("--json", action="store_true", help="one JSON object a line, as GET /v1/jobs/{id} shows it")
    _add_dead_letters(commands, patience)


def _job_id(text: str) -> str:
    if not is_job_id(text):
        raise ArgumentTypeError(f"{text!r} is not a job id (job_ and 26 characters)")
    return text


def _patience(default: object) -> ArgumentParser:
    patience = ArgumentParser(add_help=False)
    patience.add_argument(
        "--patience",
        type=_seconds,
        default=default,
        metavar="SECONDS",
        help="how long to wait for a gateway that does not answer (default: not at all, or 60 once it has answered)",
    )
    return patience


def _add_dead_letters(commands: "argparse._SubParsersAction[ArgumentParser]", patience: ArgumentParser) -> None:
    """Add the command for dead letters, which has actions of its own; the first one needs no name."""
    letters = _add(
        commands,
        "dead-letters",
        patience,
        "list, requeue or delete the jobs that failed for good (needs an admin key)",
        "The jobs of all tenants that failed for good: list them, the last that failed first, show one, requeue "
        "or delete them. Without an ACTION they are listed. An admin key is needed.",
    )
    _add_filters(letters, limit=LISTED)
    actions = letters.add_subparsers(dest="action", metavar="ACTION")
    letters.set_defaults(action="list")
    # An option before the action's name also holds after it: an action's options have no defaults of their own.
    unsaid = _patience(argparse.SUPPRESS)
    listing = _add(actions, "list", unsaid, "list them (the default)", "List dead letters, the last that failed first.")
    _add_filters(listing, default=argparse.SUPPRESS)
    show = _add(actions, "show", unsaid, "show one, with its request", "Show a dead letter and its request, as JSON.")
    show.add_argument("jobs", nargs=1, type=_job_id, metavar="JOB", help="its job's id")
    _add_json(show, argparse.SUPPRESS)
    for name, what, description in (
        ("requeue", "make new jobs of them", "Make a new job of each; one that was requeued already stays what it is."),
        ("delete", "delete them", "Delete dead letters: their jobs are then kept as any other that failed."),
    ):
        action = _add(actions, name, unsaid, what, description + " Name them, or say which with options.")
        action.add_argument("jobs", nargs="*", type=_job_id, metavar="JOB", help="a job's id")
        action.add_argument(ALL, action="store_true", help="all of them that the other options name")
        _add_filters(action, default=argparse.SUPPRESS)


def _add_filters(parser: ArgumentParser, *, default: object = None, limit: int | None = None) -> None:
    parser.add_argument("--tenant", default=default, help="only this tenant's")
    parser.add_argument("--code", default=default, help="only those with this error code, as in provider_timeout")
    parser.add_argument("--model", default=default, help="only those that asked for this model")
    parser.add_argument(
        "--requeued",
        choices=_REQUEUED,
        default=default,
        help="those that were requeued already, or any (default: false, which are the open ones)",
    )
    parser.add_argument(
        "--limit",
        type=_count,
        default=default,
        metavar="N",
        help=f"at most so many (default: {limit})" if limit else "at most so many",
    )
    _add_json(parser, False if default is None else default)


def _add_json(parser: ArgumentParser, default: object) -> None:
    parser.add_argument("--json", action="store_true", default=default, help="one JSON object a line")


def _add_submit(commands: "argparse._SubParsersAction[ArgumentParser]", patience: ArgumentParser) -> None:
    submit = _add(
        commands,
        "submit",
        patience,
        "submit a prompt and print its answer",
        "Submit a prompt as a job and print its answer: to a terminal as it comes, to a pipe once it is proven to be "
        "whole. Lost connections and gateways that restart are waited for. Ctrl-C leaves; the job continues.",
    )
    submit.add_argument("prompt", nargs="*", metavar="PROMPT", help="the prompt; - or nothing: it is read from stdin")
    submit.add_argument("--model", type=_text, help="the model's name (default: the only one that the gateway serves)")
    what = submit.add_mutually_exclusive_group()
    what.add_argument("--system", metavar="TEXT", help="a system message that goes before the prompt")
    what.add_argument(
        "--embed",
        action="store_true",
        help="embed the prompt, each of its lines for itself; a pipe gets a vector a line, as JSON",
    )
    submit.add_argument(
        "--param",
        type=_param,
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="another field of the job's body, as in temperature=0.2 or 'stop=[\"END\"]'; may be repeated",
    )
    submit.add_argument("--lane", help="the lane to queue in")
    submit.add_argument(
        "--after",
        type=_parent,
        action=_AddParent,
        default={},
        metavar="NAME=JOB",
        help="start after this job; {{NAME}} in the prompt is its text; may be repeated",
    )
    submit.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="the job's time from submit to its end")
    submit.add_argument(
        "--on-disconnect", metavar="HOW", help="what becomes of the job when its readers leave: continue or cancel"
    )
    submit.add_argument(
        "--abandon-after", type=_seconds, metavar="SECONDS", help="cancel the job if it has had no reader for this long"
    )
    submit.add_argument(
        "--idempotency-key", type=_key, metavar="KEY", help="the same key is the same job (default: a new one)"
    )
    how = submit.add_mutually_exclusive_group()
    how.add_argument("--detach", action="store_true", help="print the job's id, and do not wait for its answer")
    how.add_argument("--stream", action="store_true", help=_STREAM)


def _add_tail(commands: "argparse._SubParsersAction[ArgumentParser]", patience: ArgumentParser) -> None:
    tail = _add(
        commands,
        "tail",
        patience,
        "print a job's answer, from its start",
        "Print the answer of a job, running or ended, from its start; then continue as `tailrace submit` does.",
    )
    which = tail.add_mutually_exclusive_group(required=True)
    which.add_argument("job", nargs="?", type=_reference, metavar="JOB", help=f"{_JOB}; one with a token needs no key")
    which.add_argument("--chat", type=_chat, metavar="ID", help=_CHAT)
    tail.add_argument(
        "--from", type=_cursor, dest="cursor", metavar="CURSOR", help="only what follows this event id, as in 1-17"
    )
    how = tail.add_mutually_exclusive_group()
    how.add_argument("--events", action="store_true", help="the events themselves, as JSON lines, as they come")
    how.add_argument("--stream", action="store_true", help=_STREAM)


def _add(
    commands: "argparse._SubParsersAction[ArgumentParser]",
    name: str,
    patience: ArgumentParser,
    what: str,
    description: str,
) -> ArgumentParser:
    return commands.add_parser(
        name,
        parents=[patience],
        help=what,
        description=textwrap.fill(description, _COLUMNS),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def filters_of(options: Namespace) -> dict[str, str]:
    """Return the query for the dead letters that these options name."""
    named = {name: getattr(options, name) for name in ("tenant", "code", "model", "requeued")}
    return {name: value for name, value in named.items() if value is not None}


def request_of(options: Namespace, prompt: str, model: str) -> dict[str, Any]:
    """Return the body of `POST /v1/jobs` for `tailrace submit` with these options."""
    request: dict[str, Any] = {**dict(options.param), "model": model}
    if options.embed:
        request |= {"kind": EMBEDDINGS, "input": [line for line in map(str.rstrip, prompt.split("\n")) if line]}
    else:
        system = [] if options.system is None else [{"role": "system", "content": options.system}]
        request["messages"] = [*system, {"role": "user", "content": prompt}]
    own = {
        "lane": options.lane,
        "timeout_s": options.timeout,
        "on_disconnect": options.on_disconnect,
        "abandon_after_s": options.abandon_after,
        "after": options.after or None,
    }
    return request | {name: value for name, value in own.items() if value is not None}


class _AddParent(argparse.Action):
    """Collects the jobs that a job comes after by their names."""

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: Any, option: str | None = None) -> None:
        """Add one; a name may be given once."""
        name, job_id = values
        parents: dict[str, str] = getattr(namespace, self.dest)
        if name in parents:
            raise argparse.ArgumentError(self, f"{name} is given twice")
        setattr(namespace, self.dest, {**parents, name: job_id})


def _parent(text: str) -> tuple[str, str]:
    name, _, job_id = text.partition("=")
    if not (is_parent_name(name) and is_job_id(job_id)):
        raise ArgumentTypeError(f"{text[:100]!r} is not NAME=JOB, as in outline=job_ and 26 characters")
    return name, job_id


def _text(text: str) -> str:
    if not text.strip():
        raise ArgumentTypeError("it must not be empty")
    return text


def _key(text: str) -> str:
    if not (text.strip() and text.isascii() and text.isprintable()):
        raise ArgumentTypeError("it must be printable ASCII characters")
    return text


def _chat(text: str) -> Reference:
    return Reference(chat_id=_key(text))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not (seconds >= 0 and math.isfinite(seconds)):
        raise ArgumentTypeError(f"{text!r} is not a number of seconds, as in 30 or 0.5")
    return seconds


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text)):
        raise ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _reference(text: str) -> Reference:
    reference = read_reference(text)
    if reference is None:
        *others, last = PREFIXES
        form = f"{', '.join(others)} or {last} and 26 characters"
        raise ArgumentTypeError(f"{text!r} is not a job id ({form}) or the address of a job; for a chat, use --chat ID")
    return reference


def _cursor(text: str) -> EventId:
    try:
        return parse_cursor(text)
    except BadCursor as error:
        raise ArgumentTypeError(str(error)) from None


def _param(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ArgumentTypeError(f"{text!r} is not NAME=JSON, as in temperature=0.2")
    if name in _NO_PARAM:
        raise ArgumentTypeError(f"{name} is set by {_NO_PARAM[name]}")
    try:
        found = json.loads(value)
        encode_data(found)  # Python reads NaN and infinity too
        return name, found
    except (ValueError, RecursionError):
        raise ArgumentTypeError(
            f"the value of {name} is not JSON; a string needs quotes, as in '{name}=\"text\"'"
        ) from None
