"""Test the data directory: it is made or repaired to be its owner's alone, or refused."""

import os
import stat
from pathlib import Path

import pytest

from shared.model.errors import StartupError
from shared.process.data_directory import open_private, prepare_data_directory

OURS = ("development.key", "valkey.password", "valkey.pid", "valkey.log", "valkey.lock", "up.lock")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """Make a directory with Tailrace's files, which all users can read and change."""
    folder = tmp_path / "data"
    (folder / "appendonlydir").mkdir(parents=True)
    for name in (*OURS, "appendonlydir/appendonly.aof.1.base.rdb"):
        (folder / name).write_text("kept")
        (folder / name).chmod(0o666)
    (folder / "appendonlydir").chmod(0o777)
    folder.chmod(0o777)
    return folder


def test_a_directory_is_made_for_its_owner_only(tmp_path: Path) -> None:
    assert prepare_data_directory(tmp_path / "a" / "data") == (tmp_path / "a" / "data").resolve()
    assert mode(tmp_path / "a" / "data") == 0o700


def test_wider_rights_are_taken_away_and_nothing_is_lost(wide: Path) -> None:
    prepare_data_directory(wide)

    assert mode(wide) == mode(wide / "appendonlydir") == 0o700
    for name in (*OURS, "appendonlydir/appendonly.aof.1.base.rdb"):
        assert mode(wide / name) == 0o600
        assert (wide / name).read_text() == "kept"


def test_files_that_are_not_tailraces_stay_as_they_are(wide: Path) -> None:
    (wide / "notes.txt").touch()
    (wide / "notes.txt").chmod(0o644)

    prepare_data_directory(wide)

    assert mode(wide / "notes.txt") == 0o644


def test_a_directory_that_is_a_symbolic_link_is_refused_and_its_target_is_left_alone(wide: Path) -> None:
    link = wide.with_name("link")
    link.symlink_to(wide)

    with pytest.raises(StartupError, match=r"^The data directory .*/link is a symbolic link; set TAILRACE_DATA_DIR to"):
        prepare_data_directory(link)

    assert mode(wide) == 0o777


@pytest.mark.parametrize("target", ["elsewhere", "missing"])
def test_a_file_that_is_a_symbolic_link_is_refused_and_its_target_is_left_alone(wide: Path, target: str) -> None:
    elsewhere = wide.with_name("elsewhere")
    elsewhere.touch()
    elsewhere.chmod(0o644)
    (wide / "development.key").unlink()
    (wide / "development.key").symlink_to(wide.with_name(target))

    with pytest.raises(StartupError, match=r"^The file .*/development\.key is a symbolic link; remove it\.$"):
        prepare_data_directory(wide)

    assert mode(elsewhere) == 0o644
    with pytest.raises(OSError, match="symbolic links"):
        open_private(wide / "development.key", os.O_WRONLY)


@pytest.mark.parametrize("name", ["", "valkey.password"])
def test_a_directory_or_file_of_another_user_is_refused(wide: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(wide / name, 12_345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12_345)

    with pytest.raises(StartupError, match="belongs to another user") as refusal:
        prepare_data_directory(wide)

    assert "\n" not in str(refusal.value)
    assert mode(wide / name) == (0o666 if name else 0o777)


def test_a_directory_of_all_users_is_refused(wide: Path) -> None:
    wide.chmod(0o1777)

    with pytest.raises(StartupError, match="is shared by all users"):
        prepare_data_directory(wide)

    assert mode(wide) == 0o1777


def test_a_private_file_is_made_for_its_owner_only(tmp_path: Path) -> None:
    os.close(open_private(tmp_path / "file", os.O_WRONLY))
    assert mode(tmp_path / "file") == 0o600
