"""Run the actions of `tailrace dead-letters`: list, show, requeue and delete.

Not here: the requests (connection.py), and the table of dead letters (gateway/client/model/table.py).
"""

import json
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

from gateway.client.arguments import ALL, LISTED, filters_of
from gateway.client.connection import GatewayConnection, Json
from gateway.client.model.exit_status import ExitStatus, of_error
from gateway.client.model.table import table_of_letters
from gateway.client.model.text import one_line, safe
from gateway.client.terminal import Console
from shared.model.errors import GatewayRefused, InvalidRequest


def run_action(options: Namespace, connection: GatewayConnection, console: Console) -> int:
    """Run the action in `options`; return the exit status."""
    return _ACTIONS[options.action](options, connection, console)


def _list(options: Namespace, connection: GatewayConnection, console: Console) -> int:
    found = connection.dead_letters(filters_of(options), options.limit or LISTED)
    if options.json:
        for letter in found:
            console.write(json.dumps(letter) + "\n")
    elif letters := list(found):
        console.write(table_of_letters(letters, datetime.now(UTC)))
    return ExitStatus.COMPLETE


def _show(options: Namespace, connection: GatewayConnection, console: Console) -> int:
    letter = connection.dead_letter(options.jobs[0])
    shown = json.dumps(letter, indent=None if options.json else 2)
    console.write((safe(shown) if console.is_terminal else shown) + "\n")
    return ExitStatus.COMPLETE


def _requeue(options: Namespace, connection: GatewayConnection, console: Console) -> int:
    return _apply(options, console, connection.requeue, connection.requeue_many)


def _delete(options: Namespace, connection: GatewayConnection, console: Console) -> int:
    return _apply(options, console, connection.delete, connection.delete_many)


def _apply(
    options: Namespace,
    console: Console,
    one: Callable[[str], Json],
    many: Callable[[Mapping[str, str], int | None], Iterator[Json]],
) -> int:
    """Apply an action to the named dead letters, or to all that the options select; report each one."""
    filters = filters_of(options)
    if options.jobs and (filters or options.all or options.limit):
        raise InvalidRequest(f"Name the jobs, or select them with options such as {ALL}, but not both.", param="JOB")
    if not (options.jobs or filters or options.all):
        raise InvalidRequest(f"Name the jobs, or select them with --tenant, --code, --model or {ALL}.", param="JOB")
    worst: int = ExitStatus.COMPLETE
    if not options.jobs:
        for result in many({**filters, "all": "true"}, options.limit):
            worst = _report(str(result.get("id")), result, options, console) or worst
    for job_id in options.jobs:
        try:
            result = one(job_id)
        except GatewayRefused as error:
            console.fail(str(error))
            worst = worst or of_error(error)
        else:
            _report(job_id, result, options, console)
    return worst


def _report(job_id: str, result: Json, options: Namespace, console: Console) -> int:
    """Report the outcome for one dead letter; return the exit status."""
    error = result.get("error") if result.get("id") == job_id else None
    if options.json:
        console.write(json.dumps(result) + "\n")
    elif isinstance(error, Mapping):
        console.fail(f"{one_line(job_id)}: {one_line(str(error.get('message')))}")
    else:
        # The answer for a single dead letter is the new job; for one of many it names the new job's id.
        now = "deleted" if result.get("deleted") else result.get("requeued_as") or result.get("id")
        console.write(f"{one_line(job_id)} {one_line(str(now))}\n")
    return ExitStatus.FAILED if isinstance(error, Mapping) else ExitStatus.COMPLETE


_ACTIONS: Mapping[str, Callable[[Namespace, GatewayConnection, Console], int]] = {
    "list": _list,
    "show": _show,
    "requeue": _requeue,
    "delete": _delete,
}
