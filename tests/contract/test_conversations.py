"""Test which job answers in a chat, on the real server: of two tabs the last one, and a stop reaches every job."""

import asyncio

import pytest

from shared.store.conversations import Conversation, Conversations
from tests.support.core import Core

CHAT = ("alice", "chat {1}")
RETENTION_S, TIMEOUT_S = 60.0, 30.0


@pytest.fixture
def chats(core: Core) -> Conversations:
    """Return all conversations under this test's keys."""
    return Conversations(core.client, core.keys, retention_s=RETENTION_S)


async def answered(chats: Conversations, job_id: str, *, whole: bool = True, last: str | None = None) -> list[str]:
    """Begin and record a job; return the jobs that it superseded."""
    begun = await chats.begin(*CHAT, job_id, last=last, whole=whole, timeout_s=TIMEOUT_S)
    committed = await chats.commit(*CHAT, job_id, [("u1", 1)], timeout_s=TIMEOUT_S)
    assert begun is not None and committed is not None
    return begun + committed


async def test_a_chat_that_was_never_begun_is_empty(chats: Conversations) -> None:
    assert await chats.load(*CHAT) == Conversation(None, [], [])
    assert await chats.stop(*CHAT) == []


async def test_a_job_that_has_begun_may_answer_and_is_not_the_last_one_yet(chats: Conversations) -> None:
    assert await chats.begin(*CHAT, "one", last=None, whole=True, timeout_s=TIMEOUT_S) == []

    assert await chats.load(*CHAT) == Conversation(None, [], ["one"])


async def test_a_recorded_job_answers_and_has_the_messages(chats: Conversations) -> None:
    await answered(chats, "one")

    assert await chats.load(*CHAT) == Conversation("one", [("u1", 1)], ["one"])


async def test_the_next_one_supersedes_it(chats: Conversations) -> None:
    await answered(chats, "one")

    assert await answered(chats, "two", whole=False, last="one") == ["one"]
    assert (await chats.load(*CHAT)).active == ["two"]


async def test_the_last_of_two_concurrent_tabs_is_answered(chats: Conversations) -> None:
    assert await chats.begin(*CHAT, "one", last=None, whole=True, timeout_s=TIMEOUT_S) == []
    assert await chats.begin(*CHAT, "two", last=None, whole=True, timeout_s=TIMEOUT_S) == ["one"]

    assert await chats.commit(*CHAT, "one", [], timeout_s=TIMEOUT_S) is None
    assert await chats.commit(*CHAT, "two", [], timeout_s=TIMEOUT_S) == []
    assert (await chats.load(*CHAT)).active == ["two"]


async def test_the_former_job_is_active_while_the_next_one_is_begun(chats: Conversations) -> None:
    await answered(chats, "one")
    await chats.begin(*CHAT, "two", last=None, whole=True, timeout_s=TIMEOUT_S)

    assert (await chats.load(*CHAT)).active == ["two", "one"]


async def test_a_tab_must_read_the_last_answer_before_it_may_continue(chats: Conversations) -> None:
    await answered(chats, "one")

    for last in (None, "zero"):
        assert await chats.begin(*CHAT, "two", last=last, whole=False, timeout_s=TIMEOUT_S) is None
    assert (await chats.load(*CHAT)).active == ["one"]


async def test_a_stop_finds_the_job_that_answers(chats: Conversations) -> None:
    await answered(chats, "one")

    assert await chats.stop(*CHAT) == ["one"]
    assert await chats.stop(*CHAT) == []
    assert await chats.load(*CHAT) == Conversation("one", [("u1", 1)], [])


async def test_a_stop_finds_a_job_that_is_not_yet_recorded(chats: Conversations) -> None:
    await answered(chats, "one")
    await chats.begin(*CHAT, "two", last=None, whole=True, timeout_s=TIMEOUT_S)

    assert await chats.stop(*CHAT) == ["two", "one"]
    assert await chats.commit(*CHAT, "two", [], timeout_s=TIMEOUT_S) is None
    assert (await chats.load(*CHAT)).last == "one"


async def test_a_stop_for_another_answer_stops_nothing(chats: Conversations) -> None:
    await answered(chats, "one")

    assert await chats.stop(*CHAT, "zero") == []
    assert await chats.stop(*CHAT, "one") == ["one"]


async def test_a_job_that_was_never_admitted_changes_nothing(chats: Conversations) -> None:
    await answered(chats, "one")
    await chats.begin(*CHAT, "refused", last=None, whole=True, timeout_s=TIMEOUT_S)

    assert await answered(chats, "two", whole=False, last="one") == ["refused", "one"]


async def test_one_tenants_chat_is_not_anothers(chats: Conversations) -> None:
    await answered(chats, "one")

    assert await chats.stop("bob", CHAT[1]) == []
    assert (await chats.load("bob", CHAT[1])).last is None


async def test_a_chat_is_known_for_longer_than_its_jobs_can_be_read(core: Core, chats: Conversations) -> None:
    await answered(chats, "one")

    left_s = await core.client.pttl(core.keys.conversation(*CHAT)) / 1000
    assert TIMEOUT_S + RETENTION_S < left_s <= TIMEOUT_S + 2 * RETENTION_S


async def test_however_many_send_one_answers_and_the_others_know_that_they_do_not(chats: Conversations) -> None:
    async def send(job_id: str) -> tuple[str, list[str], list[str] | None]:
        begun = await chats.begin(*CHAT, job_id, last=None, whole=True, timeout_s=TIMEOUT_S)
        assert begun is not None
        return job_id, begun, await chats.commit(*CHAT, job_id, [], timeout_s=TIMEOUT_S)

    sent = await asyncio.gather(*(send(f"job {number}") for number in range(20)))

    (active,) = (await chats.load(*CHAT)).active
    ended = {job_id for job_id, _, committed in sent if committed is None}
    ended |= {former for _, begun, committed in sent for former in begun + (committed or [])}
    assert ended | {active} == {job_id for job_id, _, _ in sent}
    assert active not in ended
