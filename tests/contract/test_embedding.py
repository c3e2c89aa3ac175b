"""Test one execution of an embeddings job, on the real server: its ends, and its use of the stored batches."""

import asyncio
import hashlib
import json
from typing import Any

import pytest

from shared.model.errors import AttemptFailed
from shared.model.jobs import Embedded
from shared.model.kinds import EMBEDDINGS
from shared.model.lifecycle import State
from shared.model.metrics import Metrics
from shared.process.clock import SystemClock
from shared.store.executions import Execution
from shared.store.results import Results
from shared.store.wire.answers import AppendAnswer, Behind, Busy, StopReason
from tests.support.core import TIMEOUT_S, Core, Watched
from worker.execution.attempt import AttemptInput
from worker.execution.embedding import Embedding
from worker.execution.ending import Ending
from worker.upstream.chain import ProviderTarget
from worker.upstream.providers.scripted import Scripted, embed
from worker.upstream.wire.vectors import read_vectors

INPUTS = [f"text {n}" for n in range(250)]
SIZE = 8 * 4
MOST = 1_000_000


class Answering(Results):
    """Record the answers of the results."""

    def __init__(self, core: Core) -> None:
        super().__init__(core.client, core.keys)
        self.answers: list[AppendAnswer] = []
        self.changed = Watched()

    async def keep(self, *args: Any, **options: Any) -> AppendAnswer:
        """Store as usual, and record the answer."""
        self.answers.append(await super().keep(*args, **options))
        self.changed.change()
        return self.answers[-1]


async def begun(core: Core) -> Execution:
    return await core.running(kind=EMBEDDINGS)


def embedding(
    core: Core,
    execution: Execution,
    inputs: object = INPUTS,
    *,
    metrics: Metrics | None = None,
    results: Results | None = None,
) -> Embedding:
    """Build an execution that calls the scripted provider."""
    target = ProviderTarget(Scripted(), first_token_s=TIMEOUT_S, gap_s=TIMEOUT_S)
    return Embedding(
        execution,
        AttemptInput({"model": "scripted", "input": inputs}, target, None, lambda: None),
        core.store,
        results or Results(core.client, core.keys),
        SystemClock(),
        metrics or Metrics(),
        max_result_bytes=MOST,
    )


async def run(execution: Embedding) -> Ending | None:
    """Run to the end, as if nothing followed a failure."""
    async with asyncio.timeout(TIMEOUT_S):
        ending = await execution.run()
    return execution.failed(ending) if isinstance(ending, AttemptFailed) else ending


def code(ending: Ending | None) -> str:
    assert ending is not None and ending.state is State.FAILED
    found: str = ending.data["error"]["code"]
    return found


async def test_a_metric_counts_the_embedded_inputs(core: Core) -> None:
    metrics = Metrics()

    ending = await run(embedding(core, await begun(core), metrics=metrics))

    assert ending is not None and ending.state is State.COMPLETED
    assert metrics.embedded.of("scripted").value == len(INPUTS)


async def test_an_execution_stopped_before_it_ran_calls_no_provider(core: Core) -> None:
    metrics = Metrics()
    stopped = embedding(core, await begun(core), metrics=metrics)
    stopped.stop(StopReason.DRAIN)
    stopped.stop(StopReason.CANCELLED)

    assert await run(stopped) is None

    assert stopped.stopped == "drain"
    assert metrics.embedded.of("scripted").value == 0


async def test_a_replaced_execution_stops_at_its_next_batch(core: Core) -> None:
    execution = await begun(core)
    replaced = embedding(core, execution)
    await core.begin(execution.job_id, "worker.2")

    assert await run(replaced) is None

    assert replaced.stopped == "fenced"
    assert await core.store.embedded(execution.job_id) is None


async def test_a_write_that_redis_lost_before_the_end_is_noticed_at_the_end(core: Core) -> None:
    execution = await begun(core)
    first = embedding(core, execution)
    ending = await run(first)
    assert ending is not None
    await core.client.hset(core.keys.job(execution.job_id).record, "seq", "3")  # type: ignore[misc]

    assert await first.finish(core.executions, ending) == Behind(3)

    assert first.stopped == "behind"


async def test_a_batch_behind_a_lost_write_ends_the_execution(core: Core) -> None:
    execution = await begun(core)
    await core.client.hset(core.keys.job(execution.job_id).record, "seq", "0")  # type: ignore[misc]
    forgotten = embedding(core, execution)

    assert await run(forgotten) is None

    assert forgotten.stopped == "behind"


async def kept(core: Core, execution: Execution, result: bytes, **changes: object) -> None:
    """Store a former execution's first batch, with the given changes."""
    reported = {
        "model": "scripted",
        "done": 100,
        "total": 250,
        "dimensions": 8,
        "prompt_tokens": 200,
        "source": "estimated",
        "sha256": "no",
    }
    await core.client.hset(core.keys.job(execution.job_id).record, "embedded", json.dumps({**reported, **changes}))  # type: ignore[misc]
    await core.client.set(core.keys.job(execution.job_id).result, result)


async def test_kept_vectors_without_a_matching_digest_break_the_job(core: Core) -> None:
    execution = await begun(core)
    await kept(core, execution, bytes(100 * SIZE))

    assert code(await run(embedding(core, execution))) == "broken_job"


async def test_kept_vectors_of_another_request_break_the_job(core: Core) -> None:
    execution = await begun(core)
    assert await run(embedding(core, execution)) is not None

    assert code(await run(embedding(core, execution, INPUTS[:200]))) == "broken_job"


async def test_an_estimate_remains_one(core: Core) -> None:
    execution = await begun(core)
    batch = read_vectors(embed({"input": INPUTS[:100]}), 100).data
    await kept(core, execution, batch + b"of a batch that was half written", sha256=hashlib.sha256(batch).hexdigest())

    ending = await run(embedding(core, execution))

    assert ending is not None and ending.data["usage"]["source"] == "estimated"
    embedded = await core.store.embedded(execution.job_id)
    assert isinstance(embedded, Embedded) and (embedded.done, embedded.prompt_tokens) == (250, 500)
    result = await core.client.getrange(core.keys.job(execution.job_id).result, 0, embedded.size - 1)
    assert result == read_vectors(embed({"input": INPUTS}), 250).data
    assert hashlib.sha256(result).hexdigest() == embedded.sha256


@pytest.mark.parametrize("inputs", [[], None, "text"])
async def test_a_request_without_a_list_of_inputs_is_broken(core: Core, inputs: object) -> None:
    assert code(await run(embedding(core, await begun(core), inputs))) == "broken_job"


async def test_a_server_without_room_is_asked_again_until_it_has_some(own_core: Core) -> None:
    execution = await begun(own_core)
    await own_core.client.config_set("maxmemory", 1)
    results = Answering(own_core)
    running = asyncio.create_task(run(embedding(own_core, execution, results=results)))
    await results.changed.until(lambda: [type(each) for each in results.answers] == [Busy, Busy])
    await own_core.client.config_set("maxmemory", 0)
    ending = await running

    assert ending is not None and ending.state is State.COMPLETED
    assert (await own_core.job(execution.job_id)).embedded is not None
