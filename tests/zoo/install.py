"""Install each client's pinned packages into an environment of its own under `.zoo/`.

`make zoo` runs it before the tests. An environment is installed again when its pins change. A failed installation is
recorded in the environment, and the tests of that client are skipped with that reason. Not here: running a client.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

PINS = Path(__file__).parent / "environments"
ROOT = Path(__file__).parents[2] / ".zoo"
_INSTALL_S = 900
_LAST_WORDS = 300
_PIP = ("install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:")
_PYTHON = sys.executable if find_spec("pip") else str(Path(sys.base_prefix, "bin", "python3"))
"""A Python that has pip: a virtual environment of Debian's has none without python3-venv."""
_NPM = ("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")


class InstallationError(Exception):
    """A client's packages can't be installed here. The message says why."""


@dataclass(frozen=True)
class Environment:
    """One client's packages: its pins in this repository, and its folder under `.zoo/`."""

    name: str

    @property
    def pins(self) -> Path:
        """Return the folder with the committed pins."""
        return PINS / self.name

    @property
    def folder(self) -> Path:
        """Return the folder with the installed packages."""
        return ROOT / self.name

    @property
    def is_node(self) -> bool:
        """Return whether its packages come from npm."""
        return (self.pins / "package.json").exists()

    @property
    def problem(self) -> str | None:
        """Return the reason why it can't be used; None: it is installed."""
        if self._read("ready") == self._fingerprint():
            return None
        return self._read("problem") or "it is not installed: run `make zoo`"

    def install(self) -> None:
        """Install it, if it is not installed.

        Raises:
            InstallationError: a tool is missing, or the registry does not have the packages.
        """
        if self.problem is None:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        try:
            if self.is_node:
                self._install_from_npm()
            else:
                self._install_from_pypi()
        except InstallationError as error:
            (self.folder / "problem").write_text(str(error))
            raise
        (self.folder / "ready").write_text(self._fingerprint())

    def _install_from_pypi(self) -> None:
        pins = self.pins / "requirements.txt"
        _run(sys.executable, "-m", "venv", "--without-pip", str(self.folder))
        _run(_PYTHON, "-m", "pip", "--python", str(self.folder / "bin/python"), *_PIP, "-r", str(pins))

    def _install_from_npm(self) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(self.pins / name, self.folder / name)
        _run(*_NPM, cwd=self.folder)

    def _fingerprint(self) -> str:
        pins = sorted(path for path in self.pins.iterdir() if path.is_file())
        return hashlib.sha256(b"".join(path.read_bytes() for path in pins)).hexdigest()

    def _read(self, name: str) -> str | None:
        file = self.folder / name
        return file.read_text() if file.exists() else None


def environments() -> list[Environment]:
    """Return all environments that have pins, by name."""
    return [Environment(path.name) for path in sorted(PINS.iterdir()) if path.is_dir()]


def _run(*command: str, cwd: Path | None = None) -> None:
    if shutil.which(command[0]) is None:
        raise InstallationError(f"{command[0]} is not installed")
    try:
        done = subprocess.run(command, check=False, cwd=cwd, capture_output=True, text=True, timeout=_INSTALL_S)
    except subprocess.TimeoutExpired:
        raise InstallationError(f"{command[0]} did not end within {_INSTALL_S} s") from None
    if done.returncode:
        raise InstallationError(_reason(done.stderr or done.stdout))


def _reason(output: str) -> str:
    """Return the line of a failed installation that says why: the last one, if npm did not add its log's address."""
    lines = [line for line in output.splitlines() if line.strip() and "complete log" not in line]
    return lines[-1][-_LAST_WORDS:] if lines else "the installation failed without a word"


def _main() -> None:
    parser = argparse.ArgumentParser(description="Install the pinned clients into .zoo/, one after the other.")
    parser.add_argument("names", nargs="*", help="environments to install; all of them if none is named")
    names = parser.parse_args().names
    for environment in environments():
        if (names and environment.name not in names) or environment.problem is None:
            continue
        print(f"Installing {environment.name} into .zoo/{environment.name}.", flush=True)
        try:
            environment.install()
        except InstallationError as error:
            print(f"It can't be installed, and its tests are skipped: {error}", flush=True)


if __name__ == "__main__":
    _main()
