"""Test the required rights: those that the functions use, and no wider than the prefix."""

import re

from shared.store.function_library import read_source
from shared.store.keys import Keys
from shared.store.wire.rights import acl_rules, needed_commands, sentence_of_missing

KEYS = Keys("mine")


def test_each_command_of_the_functions_is_tried() -> None:
    used = set(re.findall(r"redis\.p?call\('([A-Z]+)'", read_source()))

    assert used <= {command[0] for command in needed_commands(KEYS)}
    assert len(used) > 20


def test_keys_and_channels_lie_under_the_prefix_or_are_those_of_arq() -> None:
    named = {part for command in needed_commands(KEYS) for part in command if ":" in part}

    assert named
    assert all(part.startswith(("mine:", "arq:")) for part in named)


def test_a_user_whose_keys_of_arq_are_prefixed_needs_the_prefix_only() -> None:
    keys = Keys("mine", arq_prefixed=True)
    named = {part for command in needed_commands(keys) for part in command if ":" in part}

    assert all(part.startswith("mine:") for part in named)
    assert [rule for rule in acl_rules(keys) if rule[0] in "~&"] == ["~mine:*", "&mine:*"]


def test_the_rules_name_each_command_once_and_grant_nothing_else() -> None:
    rules = acl_rules(KEYS)

    assert rules[:6] == ("resetkeys", "resetchannels", "-@all", "~mine:*", "~arq:*", "&mine:*")
    assert {"+fcall", "+function|load", "+xadd", "+subscribe"} < set(rules[6:])
    assert len(set(rules)) == len(rules)


def test_missing_rights_are_one_sentence() -> None:
    sentence = sentence_of_missing(
        [("XADD", "mine:{job_probe}:record", "*", "f", "x"), ("FUNCTION", "LOAD", "x"), ("PING",)], KEYS
    )

    assert sentence == (
        "The user of this Redis may not FUNCTION LOAD, PING, XADD mine:{*}:record; allow it these commands, with the "
        "keys ~mine:* and ~arq:* and the channels &mine:*."
    )
