"""Test the machine's memory, and a container's."""

from pathlib import Path

import pytest

from shared.process.machine_memory import machine_memory


def test_the_memory_of_a_container_is_its_limit(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("33554432\n")

    assert machine_memory(limit) == 32 * 1024 * 1024


@pytest.mark.parametrize("text", ["max\n", None])
def test_the_memory_without_a_limit_is_that_of_the_machine(tmp_path: Path, text: str | None) -> None:
    limit = tmp_path / "memory.max"
    if text is not None:
        limit.write_text(text)

    assert machine_memory(limit) >= 64 * 1024 * 1024
