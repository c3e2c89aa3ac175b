"""Make the development key of a gateway without configured keys, and store it in the data directory.

`up` and `serve` make it; stored, it stays valid for open pages after a restart. The client on the same machine reads
it. Not here: a key's permissions (gateway/model/auth.py).
"""

import secrets
from pathlib import Path

from gateway.model.address import is_loopback
from shared.config.settings import Settings
from shared.model.errors import StartupError
from shared.process.data_directory import prepare_data_directory
from shared.process.secret_file import kept_secret

_FILE = "development.key"


def development_key(settings: Settings) -> str | None:
    """Return the key of such a gateway, and make it if it is missing; None if keys are configured.

    Raises:
        StartupError: such a gateway may not be reached from other machines, or the key can't be stored.
    """
    if settings.api_keys:
        return None
    if not is_loopback(settings.host):
        raise StartupError(
            f"TAILRACE_HOST is {settings.host}, and no API keys are configured: anyone could use the gateway. "
            "Set TAILRACE_API_KEYS=<key>:<tenant>, or leave TAILRACE_HOST at 127.0.0.1."
        )
    folder = prepare_data_directory(Path(settings.data_dir))
    try:
        return kept_secret(folder / _FILE, lambda: f"sk-tailrace-dev-{secrets.token_urlsafe(18)}")
    except OSError as error:
        raise StartupError(f"The data directory {folder.resolve()} can't be used: {error.strerror}.") from error


def kept_development_key(data_dir: str) -> str:
    """Read the key that a gateway started here has made.

    Raises:
        StartupError: it does not exist, or can't be read.
    """
    path = Path(data_dir).resolve() / _FILE
    try:
        key = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        key = ""
    if not key:
        raise StartupError(
            f"There is no API key: TAILRACE_API_KEY is not set, and {path} can't be read. "
            "Set it, or stay in the folder where `tailrace up` was started."
        )
    return key
