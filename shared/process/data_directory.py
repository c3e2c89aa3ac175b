"""Create or repair the data directory, so that only its owner can read it and Tailrace's files in it.

Not here: the content of the files.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from shared.model.errors import StartupError

# The directory may hold other files than Tailrace's, which must stay as they are.
_PREFIXES: Final = ("development.", "valkey.", "up.lock", "appendonlydir")
_FOLDER, _FILE, _OTHERS = 0o700, 0o600, 0o077


def prepare_data_directory(folder: Path) -> Path:
    """Make the directory, or remove the rights of others to it and to Tailrace's files. Returns its full path.

    Raises:
        StartupError: it or one of the files is a symbolic link, another user's or shared, or can't be used.
    """
    try:
        folder.mkdir(mode=_FOLDER, parents=True, exist_ok=True)
        _mend(folder, folder, is_folder=True)
        for path, is_folder in _ours(folder):
            with suppress(FileNotFoundError):  # a running server renames its files
                _mend(path, folder, is_folder=is_folder)
    except OSError as error:
        raise StartupError(f"The data directory {folder.absolute()} can't be used: {error.strerror}.") from error
    return folder.resolve()


def open_private(path: Path, flags: int) -> int:
    """Open a file that only its owner can read, and create it if it is missing; a symbolic link is not followed.

    Raises:
        OSError: it can't be opened.
    """
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, _FILE)


def _ours(folder: Path) -> Iterator[tuple[Path, bool]]:
    """List Tailrace's files below the directory, and whether each is a folder."""
    for path in folder.iterdir():
        if path.name.startswith(_PREFIXES):
            is_folder = path.is_dir() and not path.is_symlink()
            yield path, is_folder
            if is_folder:
                yield from ((each, False) for each in path.iterdir())


def _mend(path: Path, folder: Path, *, is_folder: bool) -> None:
    """Remove the rights of others. A file that another user made is refused: its content may be known, or change."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise _refusal(path, folder, "is a symbolic link")
    if found.st_uid != os.geteuid():
        raise _refusal(path, folder, "belongs to another user")
    if found.st_mode & stat.S_ISVTX:
        raise _refusal(path, folder, "is shared by all users, as /tmp is")
    if found.st_mode & _OTHERS:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            os.fchmod(descriptor, _FOLDER if is_folder else _FILE)
        finally:
            os.close(descriptor)


def _refusal(path: Path, folder: Path, why: str) -> StartupError:
    subject = "The data directory" if path == folder else "The file"
    remedy = "set TAILRACE_DATA_DIR to a directory of your own" if path == folder else "remove it"
    return StartupError(f"{subject} {path.absolute()} {why}; {remedy}.")
