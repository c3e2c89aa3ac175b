"""Test a secret in a file: made once, whole, and for its owner's eyes only."""

import stat
from pathlib import Path

import pytest

from shared.process.secret_file import kept_secret


def test_it_is_made_once(tmp_path: Path) -> None:
    assert kept_secret(tmp_path / "secret", lambda: "first") == "first"
    assert kept_secret(tmp_path / "secret", lambda: "second") == "first"


def test_a_secret_file_can_be_read_by_its_owner_only(tmp_path: Path) -> None:
    kept_secret(tmp_path / "secret", lambda: "first")
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_an_empty_file_is_not_a_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("\n")
    assert kept_secret(tmp_path / "secret", lambda: "first") == "first"


def test_a_half_written_file_of_a_crash_is_not_a_secret(tmp_path: Path) -> None:
    (tmp_path / "secret.new").write_text("fir")
    assert kept_secret(tmp_path / "secret", lambda: "first") == "first"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        kept_secret(tmp_path / "nowhere" / "secret", lambda: "first")
