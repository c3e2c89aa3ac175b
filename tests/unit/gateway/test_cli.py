"""The command line: what it refuses, in which words, and what it says when all is well."""

import socket
import stat
import sys
from pathlib import Path

import pytest

from gateway import cli
from gateway.app import listen
from gateway.cli import Upstream, banner, choose_port, development_key, kept_port, main
from shared.errors import StartupError
from shared.settings import Settings

LOCAL = Upstream({}, "smollm2-135m-instruct", "on this machine")


@pytest.fixture
def keyless(tmp_path: Path) -> Settings:
    """The settings of somebody who has set nothing."""
    return Settings(data_dir=str(tmp_path / "data"))


def test_help_names_every_command_and_says_where_settings_come_from(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    for word in ("up", "serve", "worker", "TAILRACE_", "tailrace.toml"):
        assert word in said


def test_version_is_the_packages_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("tailrace 0.")


@pytest.mark.parametrize("arguments", [[], ["upp"], ["up", "--fast"]])
def test_a_wrong_command_line_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: tailrace" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "environment", "sentence"),
    [
        ("up", {"TAILRACE_PORT": "http"}, "tailrace: These settings are wrong: TAILRACE_PORT: Input should be a valid"),
        ("up", {"TAILRACE_HOST": "0.0.0.0"}, "tailrace: TAILRACE_HOST is 0.0.0.0, and no API keys are configured"),
        ("serve", {}, "tailrace: TAILRACE_REDIS_URL is not set"),
        (
            "serve",
            {"TAILRACE_REDIS_URL": "redis://127.0.0.1:1", "TAILRACE_PORT": "0"},
            "tailrace: Redis does not answer",
        ),
    ],
)
def test_wrong_surroundings_are_one_sentence_and_status_2(
    command: str,
    environment: dict[str, str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli, "configure_logs", lambda level, log_format: None)
    for name, value in {"TAILRACE_DATA_DIR": str(tmp_path), **environment}.items():
        monkeypatch.setenv(name, value)
    assert main([command]) == 2
    said = capsys.readouterr().err
    assert said.startswith(sentence)
    assert said.count("\n") == 1


def test_the_worker_replaces_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []
    monkeypatch.setattr("os.execv", lambda *arguments: called.append(arguments))
    main(["worker"])
    assert called == [(sys.executable, [sys.executable, "-P", "-m", "worker"])]


def test_where_keys_are_configured_none_is_made(keyless: Settings) -> None:
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


def test_a_port_in_use_is_said_plainly(keyless: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(StartupError, match=rf"Port {port} on 127\.0\.0\.1 is in use; set TAILRACE_PORT"):
            choose_port(keyless.model_copy(update={"port": port}))
    assert choose_port(keyless.model_copy(update={"port": port})) == port


def test_port_0_is_a_free_one(keyless: Settings) -> None:
    port = choose_port(keyless.model_copy(update={"port": 0}))
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_one_gateway_keeps_its_port_by_itself(keyless: Settings) -> None:
    with kept_port(keyless.model_copy(update={"port": 0})) as port, socket.create_server(("127.0.0.1", port)):
        pass


def test_a_port_that_gateways_share_is_kept_for_them(keyless: Settings) -> None:
    several = keyless.model_copy(update={"port": 0, "gateways": 2})
    with kept_port(several) as port:
        with listen("127.0.0.1", port, 5.0, share=True), listen("127.0.0.1", port, 5.0, share=True) as second:
            second.listen()
            with pytest.raises(StartupError, match=rf"Port {port} on 127\.0\.0\.1 is in use"):
                listen("127.0.0.1", port, 5.0)
        with listen("127.0.0.1", port, 5.0, share=True):
            pass


def test_a_port_that_another_program_would_share_is_in_use(keyless: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as foreign:
        port = foreign.getsockname()[1]
        several = keyless.model_copy(update={"port": port, "gateways": 2})
        with pytest.raises(StartupError, match=rf"Port {port} on 127\.0\.0\.1 is in use"), kept_port(several):
            pass


@pytest.mark.parametrize("port", [0, 8080])
def test_an_address_of_another_machine_is_refused(port: int, keyless: Settings) -> None:
    with pytest.raises(StartupError, match=r"The gateway can't listen on 192\.0\.2\.1, port"):
        choose_port(keyless.model_copy(update={"host": "192.0.2.1", "port": port}))


def test_the_banner_has_the_page_with_its_key_the_model_and_a_command_to_try() -> None:
    said = banner("127.0.0.1", 8080, "sk-tailrace-dev-x", LOCAL)
    assert "running at http://127.0.0.1:8080\n" in said
    assert "http://127.0.0.1:8080/#key=sk-tailrace-dev-x\n" in said
    assert "smollm2-135m-instruct (on this machine)" in said
    assert "curl -N http://127.0.0.1:8080/v1/chat/completions \\\n" in said
    assert "-H 'Authorization: Bearer sk-tailrace-dev-x'" in said
    assert "Ctrl-C" in said


def test_the_banner_shows_no_key_that_was_configured() -> None:
    said = banner("127.0.0.1", 8080, None, LOCAL)
    assert "#key=" not in said
    assert "Bearer <key>" in said


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:80"), ("::", "http://[::1]:80"), ("::1", "http://[::1]:80"), ("me", "http://me:80")],
)
def test_the_banners_address_can_be_called(host: str, url: str) -> None:
    assert f"running at {url}\n" in banner(host, 80, None, LOCAL)
