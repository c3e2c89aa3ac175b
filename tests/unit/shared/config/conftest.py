"""Provide a `tailrace.toml` for the tests of the settings."""

from pathlib import Path

import pytest


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path from which `tailrace.toml` would be read; the file does not exist yet."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "tailrace.toml"
