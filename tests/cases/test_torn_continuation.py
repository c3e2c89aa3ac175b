"""Continue an answer that breaks off within a character before that character: no half is lost or becomes U+FFFD."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.cases.dialects import CHAT
from tests.cases.stage import Stage, running_stage
from tests.support.folded import Answer
from tests.support.raw_upstream import chunk, events, said

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "prefilled"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Start a system with a provider that continues an answer that was begun."""
    providers = {MODEL: {"continuation": "prefill"}}
    async with running_stage(redis_url, tmp_path_factory.mktemp("data"), **providers) as running:
        yield running


async def test_an_answer_that_breaks_off_in_a_character_continues_before_it(stage: Stage) -> None:
    broken = events(chunk({"content": "a\ud83d"}), done=False)
    stage.upstream.play(MODEL, broken, said({"content": "\ud83d"}, {"content": "\ude00b"}), provider=MODEL)

    got = await CHAT.ask(stage, MODEL)

    CHAT.check(got, Answer("a\U0001f600b"))
    assert stage.upstream.asked(MODEL, MODEL)[1]["messages"][-1] == {"role": "assistant", "content": "a"}
