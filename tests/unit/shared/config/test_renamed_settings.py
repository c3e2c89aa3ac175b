"""Test the old names of settings: each is refused with one sentence that has the new name."""

import pytest

from shared.config.renamed_settings import RENAMED, explain_renamed
from shared.config.settings import Settings

TABLE = {"delay_s": "wait_s", "speed": "rate"}


@pytest.mark.parametrize("name", ["speed", "TAILRACE_SPEED", "tailrace_speed"])
def test_an_old_name_is_explained_by_the_new_one(name: str) -> None:
    sentence = explain_renamed([name, "TAILRACE_PORT", "PATH"], TABLE)

    assert sentence == "TAILRACE_SPEED is TAILRACE_RATE now: set the new name in place of the old one."


def test_several_old_names_make_one_sentence() -> None:
    sentence = explain_renamed(["speed", "delay_s"], TABLE)

    assert sentence == (
        "TAILRACE_DELAY_S is TAILRACE_WAIT_S now; TAILRACE_SPEED is TAILRACE_RATE now: "
        "set the new name in place of the old one."
    )


def test_names_of_today_need_no_explanation() -> None:
    assert explain_renamed(["rate", "TAILRACE_WAIT_S"], TABLE) is None


def test_the_table_maps_former_names_to_present_settings() -> None:
    assert set(RENAMED.values()) <= set(Settings.model_fields)
    assert not set(RENAMED) & set(Settings.model_fields)
