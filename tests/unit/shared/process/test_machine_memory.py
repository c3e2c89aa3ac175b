"""Test the machine's memory, and a container's."""

from pathlib import Path

import pytest

from shared.process.machine_memory import machine_memory


def test_a_container_has_what_its_limit_says(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("33554432\n")

    assert machine_memory(limit) == 32 * 1024 * 1024


@pytest.mark.parametrize("text", ["max\n", None])
def test_without_a_limit_it_is_all_of_the_machine(tmp_path: Path, text: str | None) -> None:
    limit = tmp_path / "memory.max"
    if text is not None:
        limit.write_text(text)

    assert machine_memory(limit) >= 64 * 1024 * 1024
