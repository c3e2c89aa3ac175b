"""Test the mapping of keys to tenants, and tokens that open one job's events."""

import pytest

from gateway.model.auth import Caller, Keyring, Links
from shared.model.api_keys import parse_api_key
from shared.model.errors import Forbidden, Unauthenticated

JOB, OTHER_JOB = "job_0000000000000000000000000a", "job_0000000000000000000000000b"

ENTRIES = ("sk-alice:alice", "sk-alice-2:alice:lanes=low+default", "sk-root:root:admin")
keyring = Keyring([parse_api_key(entry) for entry in ENTRIES])
SECRET = "a secret for tests only"
links = Links(SECRET, keyring.generations)
ALICE = keyring.caller("Bearer sk-alice")


@pytest.mark.parametrize(
    ("header", "caller"),
    [
        ("Bearer sk-alice", Caller("alice")),
        ("bearer sk-alice-2", Caller("alice", lanes=("low", "default"))),
        ("BEARER  sk-root ", Caller("root", admin=True)),
    ],
)
def test_a_key_identifies_its_caller(header: str, caller: Caller) -> None:
    assert keyring.caller(header) == caller


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "sk-alice", "Basic sk-alice", "Bearersk-alice"])
def test_the_error_for_a_missing_bearer_key_shows_how_to_send_one(header: str | None) -> None:
    with pytest.raises(Unauthenticated, match="Authorization: Bearer <key>"):
        keyring.caller(header)


@pytest.mark.parametrize("key", ["sk-alic", "sk-alicee", "SK-ALICE", "sk-alice:alice", "alice", "sk-naïve"])
def test_an_unknown_key_opens_nothing_and_is_not_repeated(key: str) -> None:
    with pytest.raises(Unauthenticated, match="not valid") as caught:
        keyring.caller(f"Bearer {key}")
    assert key not in str(caught.value)
    assert caught.value.param == "Authorization"


def test_only_an_admin_key_passes_the_check_for_admins() -> None:
    assert keyring.admin("Bearer sk-root") == Caller("root", admin=True)
    with pytest.raises(Forbidden, match="key:tenant:admin"):
        keyring.admin("Bearer sk-alice")
    with pytest.raises(Unauthenticated):
        keyring.admin(None)


def test_no_key_is_kept_in_the_clear() -> None:
    assert b"sk-alice" not in repr(vars(keyring)).encode()


def test_a_token_opens_the_job_it_was_made_for() -> None:
    assert links.opens(links.token(JOB, ALICE), JOB)


def test_a_token_opens_no_other_job() -> None:
    assert not links.opens(links.token(JOB, ALICE), OTHER_JOB)


@pytest.mark.parametrize("token", ["", "x", "ünïcode", "=" * 24, "A" * 24, "A" * 32])
def test_a_malformed_token_opens_nothing(token: str) -> None:
    assert not links.opens(token, JOB)


def test_a_token_with_one_character_changed_opens_nothing() -> None:
    token = links.token(JOB, ALICE)
    for position, char in enumerate(token):
        forged = token[:position] + ("A" if char != "A" else "B") + token[position + 1 :]
        assert not links.opens(forged, JOB)


def test_a_token_signed_with_another_secret_opens_nothing() -> None:
    assert not links.opens(Links("another secret, for tests", keyring.generations).token(JOB, ALICE), JOB)


def test_a_token_needs_no_quoting_in_an_address() -> None:
    assert links.token(JOB, ALICE).replace("-", "").replace("_", "").isalnum()


# A link dies with its key.


def links_of(*entries: str) -> Links:
    """Build the links of a gateway that was started with these keys."""
    return Links(SECRET, Keyring([parse_api_key(entry) for entry in entries]).generations)


def test_a_link_becomes_invalid_with_its_own_key_only() -> None:
    second = keyring.caller("Bearer sk-alice-2")
    first_link, second_link = links.token(JOB, ALICE), links.token(JOB, second)

    without_the_first = links_of("sk-alice-2:alice", "sk-root:root:admin")
    assert not without_the_first.opens(first_link, JOB)
    assert without_the_first.opens(second_link, JOB)


def test_a_link_becomes_invalid_if_its_key_moves_to_another_tenant() -> None:
    assert not links_of("sk-alice:bob").opens(links.token(JOB, ALICE), JOB)


def test_a_link_outlives_a_change_of_its_keys_plan() -> None:
    assert links_of("sk-alice:alice:admin:lanes=low").opens(links.token(JOB, ALICE), JOB)


def test_a_link_without_a_key_is_not_good_although_the_secret_is() -> None:
    assert not links.opens(links.token(JOB, Caller("alice")), JOB)


def test_a_link_shows_nothing_of_its_key_without_the_secret() -> None:
    other = Links("another secret, for tests", keyring.generations)
    assert links.token(JOB, ALICE)[:8] != other.token(JOB, ALICE)[:8]
    assert "generation" not in repr(ALICE)


# The secret changes.


def test_links_of_the_former_secret_stay_valid_and_new_ones_are_signed_with_the_new_secret() -> None:
    changed = Links(SECRET, keyring.generations)
    former = changed.token(JOB, ALICE)
    changed.sign_with("another secret, for tests")

    assert changed.opens(former, JOB)
    assert changed.token(JOB, ALICE) != former
    assert changed.opens(changed.token(JOB, ALICE), JOB)


def test_only_the_latest_sixteen_secrets_are_accepted() -> None:
    changed = Links(SECRET, keyring.generations)
    former = changed.token(JOB, ALICE)
    changed.accept(["", SECRET, *(f"secret {number}" for number in range(15))])
    assert changed.opens(former, JOB)

    changed.accept(["secret 15"])
    assert not changed.opens(former, JOB)


def test_an_address_has_the_prefix_of_the_proxy() -> None:
    assert Links(SECRET, (), prefix="/ai").address("/v1/jobs") == "/ai/v1/jobs"
