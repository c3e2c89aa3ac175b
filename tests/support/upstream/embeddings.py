"""The answer to one embeddings request: its vectors, or the fault of one of its inputs.

Not here: the bytes of HTTP (writer.py).
"""

from shared.model.errors import ProviderRefused
from tests.support.upstream.bodies import refusal
from tests.support.upstream.script import Answer, WireScript
from tests.support.upstream.seen import Seen
from tests.support.upstream.state import Upstream
from tests.support.upstream.writer import AnswerWriter
from worker.upstream.providers.scripted import embed, script_of, scripted_inputs


async def send_embeddings(upstream: Upstream, writer: AnswerWriter, seen: Seen) -> None:
    """Send the fault or the answer of the first input that has one; without any, the vectors of all inputs."""
    if [each for each in upstream.requests if each.path == seen.path].index(seen) in upstream.held:
        await upstream.say_no_more(seen)
    try:
        scripts = [script_of(each, WireScript) for each in scripted_inputs(seen.body)]
    except ProviderRefused as unknown:
        writer.send(refusal(unknown.status, str(unknown), unknown.code, unknown.param))
        return
    script = next((each for each in scripts if each.fault or each.http), WireScript())
    if script.http is not None:
        writer.send(script.http)
    elif script.fault == "refuse":
        refused = ProviderRefused(script.message, code=script.code)
        writer.send(refusal(refused.status, script.message, script.code))
    elif script.fault in ("hang", "stall"):
        await upstream.say_no_more(seen)
    elif script.fault in ("reset", "cut"):
        writer.break_off(script)
    else:
        writer.send(Answer(body=embed(seen.body)))
