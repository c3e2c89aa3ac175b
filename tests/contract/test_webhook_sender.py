"""Send webhooks over real sockets: to addresses that may be called, without redirects."""

import socket

import pytest

from shared.model.webhooks.target import PUBLIC_ONLY, AllowedTargets
from tests.support.webhook_receiver import webhook_receiver
from worker.model.webhook_attempt import Attempted
from worker.webhooks.sender import CheckedResolver, WebhookSender

LOCAL = AllowedTargets.of(["127.0.0.0/8", "::1"])
HEADERS = {"webhook-id": "wh_1"}


async def test_the_receiver_gets_the_body_with_its_headers() -> None:
    async with webhook_receiver() as receiver:
        assert await WebhookSender(LOCAL).send(receiver.url, b'{"a":1}', HEADERS) == Attempted(204)

    (attempt,) = receiver.attempts
    assert (attempt.head, attempt.body, attempt.id) == ("POST /hook HTTP/1.1", b'{"a":1}', "wh_1")
    assert attempt.headers["content-type"] == "application/json"


async def test_a_private_address_is_not_called() -> None:
    async with webhook_receiver() as receiver:
        assert await WebhookSender(PUBLIC_ONLY).send(receiver.url, b"{}", HEADERS) == Attempted(None)

    assert receiver.attempts == []


async def test_a_name_with_a_private_address_is_not_called() -> None:
    async with webhook_receiver() as receiver:
        url = receiver.url.replace("127.0.0.1", "localhost")
        allowed_elsewhere = AllowedTargets.of(["10.0.0.0/8"])
        assert await WebhookSender(allowed_elsewhere).send(url, b"{}", HEADERS) == Attempted(None)

    assert receiver.attempts == []


async def test_a_name_that_resolves_to_a_private_address_is_refused_by_the_resolver() -> None:
    resolver = CheckedResolver(PUBLIC_ONLY)
    with pytest.raises(OSError, match="may not call"):
        await resolver.resolve("localhost", 80, socket.AF_INET)


async def test_an_allowed_host_is_called_under_its_name() -> None:
    async with webhook_receiver() as receiver:
        url = receiver.url.replace("127.0.0.1", "localhost")
        assert await WebhookSender(AllowedTargets.of(["localhost"])).send(url, b"{}", HEADERS) == Attempted(204)

    assert receiver.attempts[0].headers["host"].startswith("localhost:")


async def test_a_redirect_is_a_status_and_is_not_followed() -> None:
    async with (
        webhook_receiver() as target,
        webhook_receiver(lambda _, __: f"307 Moved\r\nLocation: {target.url}") as receiver,
    ):
        assert await WebhookSender(LOCAL).send(receiver.url, b"{}", HEADERS) == Attempted(307)

    assert target.attempts == []


@pytest.mark.parametrize(("text", "pause_s"), [("7", 7.0), ("soon", None), ("-1", None), ("9" * 10, None)])
async def test_the_pause_that_a_receiver_asks_for_is_read(text: str, pause_s: float | None) -> None:
    async with webhook_receiver(lambda _, __: f"503 Busy\r\nRetry-After: {text}") as receiver:
        assert await WebhookSender(LOCAL).send(receiver.url, b"{}", HEADERS) == Attempted(503, pause_s)


@pytest.mark.parametrize("answer", ["nonsense", "200 OK\r\nno header"])
async def test_an_answer_that_is_not_http_has_no_status(answer: str) -> None:
    async with webhook_receiver(lambda _, __: answer) as receiver:
        assert await WebhookSender(LOCAL).send(receiver.url, b"{}", HEADERS) == Attempted(None)


async def test_a_receiver_that_does_not_listen_has_no_status() -> None:
    async with webhook_receiver() as receiver:
        url = receiver.url
    assert await WebhookSender(LOCAL).send(url, b"{}", HEADERS) == Attempted(None)
