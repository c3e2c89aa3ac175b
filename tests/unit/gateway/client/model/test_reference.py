"""Test the ways to name a job, and the names that are not valid."""

import pytest

from gateway.client.model.reference import Reference, read_reference

BARE = "01hf7yat000000000000000005"
JOB = f"job_{BARE}"


@pytest.mark.parametrize("name", [JOB, f"resp_{BARE}", f"chatcmpl-{BARE}", f"cmpl-{BARE}"])
@pytest.mark.parametrize(
    ("address", "gateway"),
    [
        ("{}", None),
        ("/v1/jobs/{}", None),
        ("/v1/jobs/{}/events?last_event_id=1-17", None),
        ("http://127.0.0.1:8080/v1/jobs/{}/cancel", "http://127.0.0.1:8080"),
        ("https://t.example/v1/responses/{}?stream=true&starting_after=4", "https://t.example"),
        ("https://t.example/v1/responses/{}/input_items", "https://t.example"),
        ("https://t.example/llm/v1/chat/completions/{}/", "https://t.example/llm"),
        ("https://t.example/v1/completions/{}?stream=true", "https://t.example"),
    ],
)
def test_an_id_of_any_dialect_names_its_job_bare_and_in_an_address(
    name: str, address: str, gateway: str | None
) -> None:
    assert read_reference(address.format(name)) == Reference(JOB, gateway=gateway)


@pytest.mark.parametrize("gateway", [None, "http://127.0.0.1:8080"])
def test_a_link_contains_its_gateway_and_its_token(gateway: str | None) -> None:
    link = f"{gateway or ''}/v1/jobs/{JOB}/events?token=a-b_c"

    assert read_reference(link) == Reference(JOB, gateway=gateway, token="a-b_c")


@pytest.mark.parametrize("end", ["stream", "stop"])
def test_an_address_of_a_chat_names_the_chat(end: str) -> None:
    assert read_reference(f"http://t/api/chat/a%2Fb%20c/{end}") == Reference(chat_id="a/b c", gateway="http://t")


@pytest.mark.parametrize(
    "text",
    [
        "",
        BARE,
        "../jobs",
        f"job-{BARE}",
        f"msg_{BARE}",
        f"job_job_{BARE}",
        JOB + "0",
        JOB.upper(),
        f"http://t/v1/files/{JOB}",
        f"http://t/v1/jobs/{JOB}/events/more",
        "http://t/v1/jobs",
        "http://t/v1/jobs/job_1",
        f"ftp://t/v1/jobs/{JOB}",
        f"http:/v1/jobs/{JOB}",
        f"//t/v1/jobs/{JOB}",
        f"http://[t/v1/jobs/{JOB}",
        "http://t/api/chat",
        "http://t/api/chat//stream",
        "my-chat",
    ],
)
def test_anything_else_is_not_a_reference_to_a_job(text: str) -> None:
    assert read_reference(text) is None
