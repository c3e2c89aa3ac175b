"""Test the entries of the API keys."""

import pytest
from pydantic import SecretStr

from shared.model.api_keys import ApiKey, parse_api_key

SK_A = SecretStr("sk-a")


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ("sk-a:alice", ApiKey(SK_A, "alice")),
        ("sk-a:alice:admin", ApiKey(SK_A, "alice", admin=True)),
        ("sk-a:a.l_i-ce:lanes=low", ApiKey(SK_A, "a.l_i-ce", lanes=("low",))),
        ("sk-a:alice:lanes=low+default", ApiKey(SK_A, "alice", lanes=("low", "default"))),
        ("sk-a:alice:admin:lanes=low", ApiKey(SK_A, "alice", admin=True, lanes=("low",))),
        ("sk-a:alice:lanes=low:admin", ApiKey(SK_A, "alice", admin=True, lanes=("low",))),
    ],
)
def test_an_entry_gives_the_tenant_and_the_rights_of_a_key(entry: str, key: ApiKey) -> None:
    assert parse_api_key(entry) == key


@pytest.mark.parametrize(
    "entry",
    [
        "hunter2",
        "hunter2:",
        ":hunter2",
        "sk-a:hunter 2",
        "sk-a:" + "x" * 65,
        "sk-a:hunter2:root",
        "sk-a:hunter2:",
        "sk-a:hunter2:lanes",
        "sk-a:hunter2:lanes=",
        "sk-a:hunter2:lanes=low+",
        "sk-a:hunter2:lanes=low:lanes=high",
    ],
)
def test_a_malformed_entry_is_refused_and_not_repeated(entry: str) -> None:
    with pytest.raises(ValueError, match="key:tenant, then :admin or :lanes=<lane>") as refused:
        parse_api_key(entry)
    assert "hunter" not in str(refused.value)
