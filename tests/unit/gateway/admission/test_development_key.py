"""Test the development key: its creation, its permitted use, and the message if there is none."""

import stat
from pathlib import Path

import pytest

from gateway.admission.development_key import development_key, kept_development_key
from shared.config.settings import Settings
from shared.model.errors import StartupError


@pytest.fixture
def keyless(tmp_path: Path) -> Settings:
    """Return settings without any value set."""
    return Settings(data_dir=str(tmp_path / "data"))


def test_a_development_key_is_not_made_if_keys_are_configured(keyless: Settings) -> None:
    assert development_key(keyless.model_copy(update={"api_keys": ("sk-a:a",), "host": "0.0.0.0"})) is None
    assert not Path(keyless.data_dir).exists()


def test_the_development_key_is_made_once_and_only_its_owner_can_read_it(keyless: Settings) -> None:
    key = development_key(keyless)
    assert key is not None
    assert key.startswith("sk-tailrace-dev-")
    assert development_key(keyless) == key
    assert stat.S_IMODE((Path(keyless.data_dir) / "development.key").stat().st_mode) == 0o600
    other = keyless.model_copy(update={"data_dir": keyless.data_dir + "-2"})
    assert development_key(other) != key


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_without_keys_a_loopback_address_is_fine(host: str, keyless: Settings) -> None:
    assert development_key(keyless.model_copy(update={"host": host})) is not None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org"])
def test_without_keys_any_other_address_is_refused_and_nothing_is_made(host: str, keyless: Settings) -> None:
    with pytest.raises(StartupError, match="Set TAILRACE_API_KEYS=<key>:<tenant>, or leave TAILRACE_HOST"):
        development_key(keyless.model_copy(update={"host": host}))
    assert not Path(keyless.data_dir).exists()


def test_a_data_directory_that_cannot_be_used_is_named(keyless: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match=r"The data directory .*/file/data can't be used: Not a directory"):
        development_key(keyless.model_copy(update={"data_dir": str(tmp_path / "file" / "data")}))


def test_the_client_reads_the_key_that_the_gateway_has_made(keyless: Settings) -> None:
    made = development_key(keyless)

    assert kept_development_key(keyless.data_dir) == made


@pytest.mark.parametrize("content", [None, b"", b"\xff\n"])
def test_the_error_for_a_missing_key_names_the_setting(keyless: Settings, content: bytes | None) -> None:
    path = Path(keyless.data_dir) / "development.key"
    if content is not None:
        path.parent.mkdir()
        path.write_bytes(content)

    with pytest.raises(StartupError, match=r"TAILRACE_API_KEY is not set, and /.*/data/development\.key can't be read"):
        kept_development_key(keyless.data_dir)
