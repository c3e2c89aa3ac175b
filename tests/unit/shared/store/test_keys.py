"""Test the names in Redis."""

from dataclasses import astuple

from redis.crc import key_slot

from shared.model.jobs import new_job_id
from shared.store.keys import Keys

JOB, OTHER_JOB = new_job_id(1_700_000_000_000, 7), new_job_id(1_700_000_000_000, 8)


def all_names(keys: Keys) -> list[str]:
    return [
        *astuple(keys.job(JOB)),
        keys.lane("default"),
        keys.idempotency("alice", "k"),
        keys.deleted(JOB),
        keys.tenant_jobs("alice"),
        keys.conversation("alice", "chat"),
        keys.dead_letters,
        keys.open_dead_letters,
        keys.control,
        keys.wake_ups("default"),
        keys.active,
        keys.models,
        keys.reconciled,
        keys.reconciling,
        keys.secret,
        keys.link_secrets,
        keys.marker,
        keys.clock,
        keys.arq_is_prefixed,
    ]


def test_the_keys_of_one_job_share_a_cluster_slot_and_those_of_another_have_another() -> None:
    slots = {key_slot(name.encode()) for name in astuple(Keys("any-prefix").job(JOB))}

    assert len(slots) == 1
    assert slots != {key_slot(Keys("any-prefix").job(OTHER_JOB).record.encode())}


def test_every_name_is_under_the_prefix_and_means_one_thing() -> None:
    names = all_names(Keys("mine"))

    assert all(name.startswith("mine:") for name in names)
    assert len(set(names)) == len(names)
    assert not set(names) & set(all_names(Keys("yours")))


def test_the_keys_have_the_names_of_the_design() -> None:
    keys = Keys()

    assert keys.job(JOB).record == f"tailrace:{{{JOB}}}:record"
    assert keys.job(JOB).log == f"tailrace:{{{JOB}}}:log"
    assert keys.channel(JOB) == keys.job(JOB).channel == f"tailrace:{{{JOB}}}:live"
    assert keys.lane("default") == "tailrace:lane:default"


def test_two_tenants_never_share_an_idempotency_key_or_a_conversation() -> None:
    # A tenant's name has no colon (settings), so that its end is clear.
    keys = Keys()

    assert keys.conversation("a", "b:chat:c") != keys.conversation("a.b", "c")
    assert keys.conversation("a", "k") != keys.conversation("b", "k")

    assert keys.idempotency("a", "b:c") != keys.idempotency("a.b", "c")
    assert keys.idempotency("a", "k") != keys.idempotency("b", "k")


def test_the_keys_of_arq_have_its_own_names_unless_they_are_prefixed() -> None:
    assert Keys("mine").arq.job == "arq:job:"
    prefixed = astuple(Keys("mine", arq_prefixed=True).arq)
    assert prefixed == ("mine:arq:job:", "mine:arq:in-progress:", "mine:arq:retry:", "mine:arq:abort")
