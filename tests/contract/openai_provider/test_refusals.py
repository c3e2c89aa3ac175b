"""Test how an upstream's errors become refusals: their codes, sentences and pauses."""

import pytest

from shared.model.errors import ProviderRefused, ProviderTimeout, ProviderUnreachable
from tests.contract.openai_provider.reading import read
from tests.contract.openai_provider.refusals import body
from tests.support.upstream import Upstream, ask, running_upstream
from worker.upstream.providers.openai_compatible import OpenAICompatible

REFUSED: list[tuple[int, object, str]] = [
    (400, body("Bad."), "invalid_request"),
    (400, body("Too long.", code="context_length_exceeded"), "context_length_exceeded"),
    (400, body("Too long.", type="exceed_context_size_error", code=400), "context_length_exceeded"),
    (400, body("Not that.", code="content_filter"), "content_policy_violation"),
    (400, body("Not that.", code="content_policy_violation"), "content_policy_violation"),
    (401, body("Who?", code="invalid_api_key"), "upstream_auth"),
    (402, {"detail": "Pay."}, "insufficient_quota"),
    (403, body("No."), "upstream_auth"),
    (404, body("What?", code="model_not_found"), "model_not_found"),
    (404, {"error": "model 'x' not found"}, "model_not_found"),
    (404, {"detail": "Not Found"}, "model_not_found"),
    (409, body("Now?"), "server_error"),
    (413, body("Too much."), "invalid_request"),
    (422, {"detail": [{"loc": ["body", "n"]}]}, "invalid_request"),
    (429, body("Slow.", type="requests", code="rate_limit_exceeded"), "rate_limit_exceeded"),
    (429, body("Pay.", type="insufficient_quota", code="insufficient_quota"), "insufficient_quota"),
    (429, "slow down", "rate_limit_exceeded"),
    (500, body("Oops.", type="server_error"), "server_error"),
    (502, "<html><body>Bad Gateway</body></html>", "server_error"),
    (503, body("Busy.", type="overloaded_error"), "provider_overloaded"),
    (503, None, "provider_overloaded"),
    (529, {"error": {"type": "overloaded_error", "message": ["no", "text"], "code": ["x"]}}, "provider_overloaded"),
    (418, {"error": {"code": {"a": 1}}}, "provider_error"),
]


@pytest.mark.parametrize(("status", "answer", "code"), REFUSED)
async def test_an_error_becomes_a_refusal(provider: OpenAICompatible, status: int, answer: object, code: str) -> None:
    with pytest.raises(ProviderRefused, match=f"^The provider mock answered with {status}") as refused:
        await read(provider, ask(http={"status": status, "body": answer}))
    assert refused.value.code == code


@pytest.mark.parametrize("status", [408, 504])
async def test_an_upstream_that_waited_for_its_own_upstream_timed_out(provider: OpenAICompatible, status: int) -> None:
    with pytest.raises(ProviderTimeout, match=f"answered with {status}: something behind it took too long\\."):
        await read(provider, ask(http={"status": status, "body": body("Too slow.")}))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"message": "Slow.", "type": "tokens", "code": "rate_limit_exceeded"}, "rate_limit_exceeded"),
        ({"message": "Busy.", "type": "overloaded_error"}, "provider_overloaded"),
        ({"message": "Busy.", "code": 503}, "provider_overloaded"),
        ({"message": "Bad.", "type": "BadRequestError", "code": 400}, "invalid_request"),
        ({"message": "Bad.", "type": "invalid_request_error", "code": None}, "invalid_request"),
        ({"message": "Oops.", "type": "server_error", "code": "server_error"}, "server_error"),
        ({"message": "Oops.", "code": 12}, "provider_error"),
        ("Oops.", "provider_error"),
        (["Oops."], "provider_error"),
    ],
)
@pytest.mark.parametrize("after", [0, 3])
async def test_an_error_in_mid_stream_becomes_a_refusal(
    provider: OpenAICompatible, upstream: Upstream, error: object, code: str, after: int
) -> None:
    with pytest.raises(ProviderRefused, match=r"^The provider mock answered with") as refused:
        await read(provider, ask(tokens=5, fault="error", error=error, after=after))
    assert refused.value.code == code


async def test_a_timeout_reported_in_mid_stream_is_a_timeout(provider: OpenAICompatible) -> None:
    with pytest.raises(ProviderTimeout):
        await read(provider, ask(fault="error", error={"message": "Slow.", "code": 504}))


async def test_an_error_in_place_of_a_whole_answer_becomes_a_refusal(provider: OpenAICompatible) -> None:
    with pytest.raises(ProviderRefused, match="an error: Busy"):
        await read(provider, ask(http={"body": body("Busy.")}))


async def test_an_unknown_model_is_not_found(provider: OpenAICompatible) -> None:
    with pytest.raises(ProviderRefused, match="answered with 404: There is no model 'unknown-7b'") as refused:
        await read(provider, ask(model="unknown-7b"))
    assert (refused.value.code, refused.value.status, refused.value.param) == ("model_not_found", 404, "model")


@pytest.mark.parametrize("param", [None, 5, "x" * 1000])
async def test_a_param_that_is_no_name_is_not_passed_on(provider: OpenAICompatible, param: object) -> None:
    with pytest.raises(ProviderRefused) as refused:
        await read(provider, ask(http={"status": 400, "body": body("Bad.", param=param)}))
    assert refused.value.param is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "7", "retry-after-ms": "250"}, 0.25),
        ({"Retry-After": "86400"}, 3600.0),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "inf"}, 3600.0),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:29:00 GMT"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30", "Date": "Wed, 21 Oct 2026 07:29:00 GMT"}, None),
    ],
)
async def test_a_refusal_says_how_long_to_wait(
    provider: OpenAICompatible, headers: dict[str, str], seconds: float | None
) -> None:
    with pytest.raises(ProviderRefused) as refused:
        await read(provider, ask(http={"status": 429, "headers": headers, "body": body("Slow.")}))
    assert refused.value.retry_after_s == seconds


async def test_nothing_is_retried_here(provider: OpenAICompatible, upstream: Upstream) -> None:
    with pytest.raises(ProviderRefused):
        await read(provider, ask(http={"status": 503, "headers": {"x-should-retry": "true"}}))
    with pytest.raises(ProviderUnreachable):
        await read(provider, ask(fault="reset"))
    assert len(upstream.requests) == 2


async def test_an_error_does_not_disclose_our_key() -> None:
    async with running_upstream(key="sk-right") as upstream:
        provider = OpenAICompatible("mock", upstream.base_url, "sk-wrong")
        with pytest.raises(ProviderRefused, match=r"401: it does not accept this gateway's credentials\.$") as refused:
            await read(provider, ask())
        assert refused.value.code == "upstream_auth"
        await provider.close()


async def test_a_long_message_is_cut_and_put_on_one_line(provider: OpenAICompatible) -> None:
    with pytest.raises(ProviderRefused) as refused:
        await read(provider, ask(http={"status": 400, "body": body("a\r\nb " * 10_000)}))
    assert str(refused.value).startswith("The provider mock answered with 400: a b a b ")
    assert len(str(refused.value)) < 600
