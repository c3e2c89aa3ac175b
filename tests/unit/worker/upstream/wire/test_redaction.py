"""Test the redaction of a foreign text: the parts that are removed, and the parts that stay."""

import pytest

from worker.upstream.wire.redaction import without_keys, without_private_parts

OURS = "prefix1234567890suffix"

KEYS = [
    OURS,
    "sk-proj-abcdefgh",
    "sk-...abcd",
    "sk-ab****yz",
    "sk-…wxyz",
    "AIzaSyA1234567890",
    "eyJhbGciOi.abc.def",
    "key_12345678",
    "abcd****wxyz",
    "****wxyz",
    "prefix...suffix",
    "pre…6789",
    "ab12...cd34",
    "0123456789abcdef0123456789abcdef",
    "Bearer abc.def",
]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_hidden_even_if_it_is_masked(key: str) -> None:
    for bare in (
        without_keys(f"It is {key} here.", OURS),
        without_private_parts(f"It is {key} here.", OURS, lambda text: True),
    ):
        assert key not in bare
        assert bare.startswith("It is ***") and bare.endswith("here.")


@pytest.mark.parametrize("owner", ["org-AbC123", "proj_xyz", "acct_1A2b", "user-12345", "arn:aws:iam::123:role/x"])
def test_an_owner_is_hidden(owner: str) -> None:
    assert without_private_parts(f"Limit of {owner} reached.", None, lambda text: True) == "Limit of *** reached."


def test_an_id_of_128_bits_is_hidden() -> None:
    text = "Request 01234567-89ab-cdef-0123-456789abcdef failed"
    assert without_private_parts(text, None, lambda text: True) == "Request *** failed"


ADDRESSES = [
    "https://platform.example.com/account?x=1",
    "http://10.0.0.1:8000/v1",
    "ops@example.com",
    "10.1.2.3:8000",
    "[fd00::1]:8000",
    "localhost:11434",
    "vllm-0.models.svc:8000",
    "gpu-7:8000",
    "llm.internal",
    "api.example.com/v1/models",
    "/usr/lib/python3/site-packages/vllm/engine.py",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_hidden_unless_the_request_has_it(address: str) -> None:
    text = f"No answer from {address} (again)"

    assert without_private_parts(text, None, lambda text: False) == "No answer from *** (again)"
    assert without_private_parts(text, None, lambda text: text in address) == text


@pytest.mark.parametrize(
    "text",
    [
        "temperature must be between 0 and 2, not 2.5.",
        "messages[0].content: Extra inputs are not permitted",
        'Unknown name "foo"',
        "The model `gpt-4o-2024-08-06` does not exist",
        "max_tokens:4096 is more than user_message, project_name or api-version allow",
        "Wait...what is meta-llama/Llama-3.1-8B-Instruct?",
    ],
)
def test_text_about_a_request_stays(text: str) -> None:
    assert without_private_parts(text, OURS, lambda text: False) == text


def test_a_long_text_is_cut_before_it_is_searched() -> None:
    assert len(without_keys("a b " * 1_000_000, None)) == 2000
    assert OURS[:4] not in without_private_parts(" " * 1990 + OURS, OURS, lambda text: False)
