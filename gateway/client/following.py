"""Follow a job to its end: write its answer, prove it, and return the exit status.

Not here: requests to the gateway (connection.py), the meaning of events (gateway/client/model/transcript.py), and the
forms of output (terminal.py).
"""

import json
from argparse import Namespace
from collections.abc import Callable, Mapping
from contextlib import closing

from gateway.client.connection import GatewayConnection, Json
from gateway.client.model.exit_status import ExitStatus, of_end
from gateway.client.model.transcript import End, Proof, Transcript
from gateway.client.model.vectors import as_lines, is_proof, vectors_of
from gateway.client.terminal import AsItComes, AtTheEnd, Console, EventLines, OnScreen, Output
from shared.model.errors import AnswerNotWhole, GatewayGarbage, GatewayRefused, JobNotFound
from shared.model.events import START, EventId, EventType
from shared.model.sse_parser import SentEvent

# The event for a job that is gone: the same that a reader gets for a log that is gone.
_FORGOTTEN = SentEvent(EventType.GAP, b"{}", None)
_ENDS = {
    EventType.FAILED.value: "failed",
    EventType.CANCELLED.value: "was cancelled",
    EventType.EXPIRED.value: "has expired",
}


def output_for(options: Namespace, console: Console) -> Output:
    """Return the form of the answer: for a terminal, as it comes, or whole at the end."""
    if console.is_terminal:
        return OnScreen(console)
    return AsItComes(console) if options.stream else AtTheEnd(console)


def follow(
    job_id: str,
    cursor: EventId,
    output: Output,
    connection: GatewayConnection,
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
            if submit is None or error.reported_code != JobNotFound.code:
                raise
            job_id = submit()
            output.show(_FORGOTTEN, transcript.apply(_FORGOTTEN), transcript)
            _read(job_id, transcript, output, connection)
    except KeyboardInterrupt:
        console.note(f"The job continues. To read it: tailrace tail {job_id}; to end it: tailrace cancel {job_id}")
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
        result = transcript.end.data.get("result")
        if is_proof(result):
            _write_vectors(job_id, result, output, connection, console)
        elif result is not None:
            _write_value(result, output, console)
        else:
            _remark(job_id, transcript, console)
    return _ended(job_id, transcript.end.type, transcript.end.data, console)


def _read(job_id: str, transcript: Transcript, output: Output, connection: GatewayConnection) -> None:
    with closing(connection.events(job_id, transcript.cursor)) as events:
        for event in events:
            output.show(event, transcript.apply(event), transcript)


def _end_of(job_id: str, connection: GatewayConnection) -> End:
    """Read the end of an ended job from its log: a link opens nothing else."""
    transcript = Transcript()
    for event in connection.events(job_id, START):
        transcript.apply(event)
    if transcript.end is None:
        raise GatewayGarbage(f"The gateway sent no events of {job_id}, although it has ended.")
    return transcript.end


def _write_value(value: object, output: Output, console: Console) -> None:
    """Write a result that is a value as a line of JSON, if the events that hold it are not written."""
    if not isinstance(output, EventLines):
        console.write(json.dumps(value) + "\n")


def _write_vectors(job_id: str, proof: Json, output: Output, connection: GatewayConnection, console: Console) -> None:
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
