"""Test the command line: its refusals, their wording, and its output if all is well."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import cli
from gateway.cli import WorkersUpstream, banner, choose_port, kept_port, main
from gateway.server import listen
from shared.config.settings import Settings
from shared.model.errors import StartupError

LOCAL = WorkersUpstream({}, "smollm2-135m-instruct", "on this machine")


@pytest.fixture
def keyless(tmp_path: Path) -> Settings:
    """Return settings without any value set."""
    return Settings(data_dir=str(tmp_path / "data"))


def test_help_names_each_command_and_the_source_of_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    for word in ("up", "serve", "worker", "submit", "tail", "cancel", "jobs", "TAILRACE_", "tailrace.toml"):
        assert word in said


def test_a_clients_command_waits_for_no_module_that_only_servers_need() -> None:
    program = "import sys, gateway.__main__; print({'redis', 'starlette', 'structlog', 'uvloop'} & {*sys.modules})"

    said = subprocess.run([sys.executable, "-P", "-c", program], check=True, capture_output=True, text=True, timeout=30)

    assert said.stdout == "set()\n"


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


def test_the_error_for_a_port_in_use_names_the_setting(keyless: Settings) -> None:
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


def test_the_banners_address_can_be_called() -> None:
    assert "running at http://[::1]:80\n" in banner("::", 80, None, LOCAL)
