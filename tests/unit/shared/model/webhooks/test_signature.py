"""Sign webhooks as Standard Webhooks 1.0 says, so that OpenAI's client accepts them."""

import time

import pytest
from openai import InvalidWebhookSignatureError, OpenAI

from shared.model.webhooks.event import event_body
from shared.model.webhooks.signature import SECRET_BYTES, secret_of, signature_headers

SECRET, OTHER = secret_of(b"\xfb" * SECRET_BYTES), secret_of(b"\x01" * SECRET_BYTES)
BODY = event_body("evt_1", "response.completed", 1, "resp_1")


def test_the_example_of_the_specification_has_its_signature() -> None:
    headers = signature_headers(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_secret_has_the_standard_alphabet_with_padding() -> None:
    assert SECRET == "whsec_" + "+/v7" * 10 + "+/s="


def test_a_secret_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes, not of 3"):
        secret_of(b"abc")


@pytest.mark.parametrize("secrets", [[SECRET], [SECRET, OTHER], [OTHER, SECRET]])
def test_the_official_client_accepts_each_secret_of_a_rotation(secrets: list[str]) -> None:
    headers = signature_headers(secrets, "wh_1", int(time.time()), BODY)
    event = OpenAI(api_key="unused").webhooks.unwrap(BODY, headers, secret=SECRET)
    assert (event.type, event.data.id) == ("response.completed", "resp_1")  # type: ignore[union-attr]


def test_the_official_client_refuses_another_secret() -> None:
    headers = signature_headers([OTHER], "wh_1", int(time.time()), BODY)
    with pytest.raises(InvalidWebhookSignatureError):
        OpenAI(api_key="unused").webhooks.unwrap(BODY, headers, secret=SECRET)
