"""Test the connection to a gateway: its retries, the failures that end it, and its messages meanwhile.

The gateway is a socket that plays prepared answers; time passes only while the connection waits.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from gateway.client import connection
from gateway.client.connection import GatewayConnection, address_of
from gateway.client.model.retry_window import RetryWindow
from shared.model.errors import EventTooLarge, GatewayGarbage, GatewayRefused, GatewayUnreachable, StartupError
from shared.model.events import START, EventId
from tests.support.canned_responses import END, FAREWELL, JOB, LOST, CannedGateway, answer, delta, problem, stream

RETRY_S = 60.0


class Scene:
    """Hold a gateway with prepared answers, a connection, and the time. `waited` and `notes` record its steps."""

    def __init__(self, answers: Sequence[bytes], before_s: float) -> None:
        self.gateway = CannedGateway(answers)
        self.now = 0.0
        self.waited: list[float] = []
        self.notes: list[str] = []
        window = RetryWindow(before_s, RETRY_S)
        self.connection = GatewayConnection(
            address_of(self.gateway.url), "sk-alice", window, self, self.notes.append, sleep=self._sleep
        )

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return 0

    def _sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds


class Stage:
    """Make scenes; they end with the test."""

    def __init__(self) -> None:
        self._scenes: list[Scene] = []

    def __call__(self, *answers: bytes, before_s: float = 0.0) -> Scene:
        self._scenes.append(Scene(answers, before_s))
        return self._scenes[-1]

    def close(self) -> None:
        for scene in self._scenes:
            scene.connection.__exit__(None, None, None)
            scene.gateway.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.close()


def ids(scene: Scene, cursor: EventId = START) -> list[str | None]:
    return [event.id for event in scene.connection.events(JOB, cursor)]


def test_events_continue_after_the_last_one_of_a_broken_connection(stage: Stage) -> None:
    scene = stage(stream(delta(1), delta(2)), stream(delta(3), END, ends=True))

    assert ids(scene, EventId(0, 1)) == ["1-1", "1-2", "1-3", "1-9"]
    assert scene.gateway.header("Last-Event-ID") == ["0-1", "1-2"]
    assert scene.gateway.header("Authorization") == ["Bearer sk-alice"] * 2
    assert scene.notes == []


def test_an_event_that_was_cut_off_is_asked_for_again(stage: Stage) -> None:
    scene = stage(stream(delta(1), delta(2)[:-1]), stream(delta(2), END))

    assert ids(scene) == ["1-1", "1-2", "1-9"]


def test_a_stream_that_ends_without_a_terminal_event_has_not_ended(stage: Stage) -> None:
    scene = stage(stream(delta(1), ends=True), stream(END, ends=True))

    assert ids(scene) == ["1-1", "1-9"]


def test_a_gap_does_not_move_the_cursor(stage: Stage) -> None:
    scene = stage(stream(delta(5)), stream(b"event: gap\ndata: {}\n\n"), stream(delta(2), END))

    assert ids(scene) == ["1-5", None, "1-2", "1-9"]
    assert scene.gateway.header("Last-Event-ID") == ["0-0", "1-5", "1-5"]


def test_the_pause_before_a_retry_is_the_one_that_the_gateway_asked_for(stage: Stage) -> None:
    scene = stage(stream(delta(1), FAREWELL), problem(503, "No.", "Retry-After: 3"), stream(END))

    assert ids(scene) == ["1-1", "1-9"]
    assert scene.waited == [0.7, 3.0]


def test_nothing_follows_the_cursor(stage: Stage) -> None:
    assert ids(stage(b"HTTP/1.1 204 No Content\r\n\r\n")) == []


def test_a_gateway_that_only_breaks_streams_is_given_up_in_the_end(stage: Stage) -> None:
    scene = stage(*[stream(FAREWELL)] * 87)

    with pytest.raises(GatewayUnreachable, match="can't be reached: peer closed connection"):
        ids(scene)
    assert sum(scene.waited) == pytest.approx(RETRY_S)


def test_heartbeats_are_an_answer(stage: Stage) -> None:
    scene = stage(*[stream(b": hb\n")] * 100, stream(END))

    assert ids(scene) == ["1-9"]


def test_a_gateway_reached_before_is_waited_for_with_one_notice(stage: Stage) -> None:
    scene = stage(stream(delta(1)))

    with pytest.raises(GatewayUnreachable, match=r"^The gateway at http://127.0.0.1:\d+ can't be reached: Connection"):
        ids(scene)
    assert sum(scene.waited) == pytest.approx(RETRY_S)
    (reported,) = scene.notes
    assert reported.endswith(": Connection refused. Trying again; Ctrl-C ends it.")


def test_a_gateway_that_was_never_there_is_not(stage: Stage) -> None:
    scene = stage()
    scene.gateway.close()

    with pytest.raises(GatewayUnreachable):
        scene.connection.models()
    assert scene.waited == []


def test_a_proxys_heartbeats_and_mark_are_passed_over(stage: Stage) -> None:
    heartbeat = b"data:\n\nevent: ping\ndata: \n\n"

    assert ids(stage(stream(b"\xef\xbb\xbf" + delta(1), heartbeat, delta(2), heartbeat, END))) == ["1-1", "1-2", "1-9"]


def test_an_event_that_is_too_large_is_not_taken(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FRAME_BYTES", 100)

    with pytest.raises(EventTooLarge):
        ids(stage(stream(b"data: " + b"x" * 100)))


def test_a_post_whose_answer_was_lost_is_repeated_with_its_key(stage: Stage) -> None:
    scene = stage(LOST, answer(202, {"id": JOB}))

    assert scene.connection.submit({"model": "small"}, "key-1") == JOB
    assert scene.gateway.header("Idempotency-Key") == ["key-1", "key-1"]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_transient_failure_is_retried(stage: Stage, status: int) -> None:
    scene = stage(answer(status, b"<html>", kind="text/html"), answer(200, {"status": "cancelled"}))

    assert scene.connection.cancel(JOB) == {"status": "cancelled"}
    assert scene.gateway.asked[0].startswith(f"POST /v1/jobs/{JOB}/cancel ")


def test_a_lasting_failure_ends_with_the_gateways_own_sentence(stage: Stage) -> None:
    scene = stage(*[problem(503, "Redis does not answer.", "Retry-After: 30")] * 3)

    with pytest.raises(GatewayUnreachable, match=r"can't be reached: Redis does not answer\.$"):
        scene.connection.cancel(JOB)
    assert scene.waited == [30.0, 30.0]


@pytest.mark.parametrize(
    ("answered", "code", "sentence"),
    [
        (problem(404, "There is no job.", code="job_not_found"), "job_not_found", "There is no job."),
        (
            answer(401, {"error": {"message": "No \x1b key.", "code": "invalid_api_key"}}),
            "invalid_api_key",
            "No ␛ key.",
        ),
        (answer(500, b"oh"), None, " answered with 500; is TAILRACE_URL right?"),
        (answer(301, b"", "Location: /login"), None, " answered with 301; is TAILRACE_URL right?"),
        (answer(403, ["no"]), None, " answered with 403; is TAILRACE_URL right?"),
        (answer(403, {"error": "no"}), None, " answered with 403; is TAILRACE_URL right?"),
        (answer(403, {"detail": 1, "code": 2}), None, " answered with 403; is TAILRACE_URL right?"),
    ],
)
def test_a_refusal_has_the_sentence_and_code_of_the_gateway(
    stage: Stage, answered: bytes, code: str | None, sentence: str
) -> None:
    with pytest.raises(GatewayRefused) as refused:
        stage(answered).connection.cancel(JOB)

    assert str(refused.value).endswith(sentence)
    assert refused.value.reported_code == code


def test_a_deleted_job_ends_its_events_with_a_refusal(stage: Stage) -> None:
    scene = stage(stream(delta(1)), problem(404, "There is no job."))

    with pytest.raises(GatewayRefused, match="There is no job"):
        ids(scene)


def test_jobs_come_page_by_page(stage: Stage) -> None:
    pages: list[dict[str, Any]] = [
        {"data": [{"id": n} for n in range(100)], "has_more": True, "last_id": "job_a"},
        {"data": [], "has_more": True, "last_id": "job_b"},  # a filter that little passes
        {"data": [{"id": 100}], "has_more": True, "last_id": None},
    ]
    scene = stage(*[answer(200, page) for page in pages])

    assert [job["id"] for job in scene.connection.jobs("failed", 150)] == list(range(101))
    assert [each.split(" ")[1] for each in scene.gateway.asked] == [
        "/v1/jobs?status=failed&limit=100",
        "/v1/jobs?status=failed&after=job_a&limit=50",
        "/v1/jobs?status=failed&after=job_b&limit=50",
    ]


def test_no_more_jobs_are_asked_for_than_are_wanted(stage: Stage) -> None:
    scene = stage(answer(200, {"data": [{"id": 1}], "has_more": True, "last_id": "job_a"}))

    assert len(list(scene.connection.jobs(None, 1))) == 1


def test_a_chat_is_asked_for_its_job(stage: Stage) -> None:
    scene = stage(answer(200, b"", f"X-Tailrace-Job: {JOB}"), answer(204), answer(204, b"", "X-Tailrace-Job: ../.."))

    assert [scene.connection.job_of_chat("a/b c?"), scene.connection.job_of_chat("x")] == [JOB, None]
    with pytest.raises(GatewayGarbage):
        scene.connection.job_of_chat("x")
    assert scene.gateway.asked[0].startswith("HEAD /api/chat/a%2Fb%20c%3F/stream ")


def test_a_refusal_without_a_body_has_a_sentence_too(stage: Stage) -> None:
    for status, sentence in ((401, "does not accept this API key"), (400, "answered with 400")):
        with pytest.raises(GatewayRefused, match=sentence):
            stage(answer(status)).connection.job_of_chat("x")


def test_models_whose_names_could_harm_a_terminal_are_passed_over(stage: Stage) -> None:
    ids = ["good", "a\x1b[2J", "a\u202eb", "x" * 10_000, 7, None]

    assert stage(answer(200, {"data": [{"id": each} for each in ids]})).connection.models() == ["good"]


@pytest.mark.parametrize("body", [b"Welcome", [], {"data": {}}, {"data": ["x"]}, b"[" * 100_000])
def test_a_body_that_tailrace_would_not_send_is_garbage(stage: Stage, body: object) -> None:
    with pytest.raises(GatewayGarbage, match=r"does not answer as Tailrace does; is TAILRACE_URL right\?"):
        stage(answer(200, body)).connection.models()


def test_neither_is_another_id_nor_a_page_in_place_of_a_stream(stage: Stage) -> None:
    with pytest.raises(GatewayGarbage):
        stage(answer(202, {"id": "../.."})).connection.submit({}, "key-1")
    with pytest.raises(GatewayGarbage):
        ids(stage(answer(200, b"Welcome", kind="text/html")))


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://host", "http://", "http://host:port"])
def test_a_malformed_address_is_refused(url: str) -> None:
    with pytest.raises(StartupError, match=r"TAILRACE_URL must be like http://127\.0\.0\.1:8080\."):
        address_of(url)


@pytest.mark.parametrize("key", ["", " ", "sk-\n", "sk-é"])
def test_a_key_that_can_be_none_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(StartupError, match="printable ASCII") as refused:
        GatewayConnection(address_of("http://host"), key, RetryWindow(0, 0), Clockless(), print)
    assert not key.strip() or key not in str(refused.value)


class Clockless:
    """Fail at each use of the clock."""

    def monotonic(self) -> float:
        raise AssertionError

    def wall_ms(self) -> int:
        raise AssertionError
