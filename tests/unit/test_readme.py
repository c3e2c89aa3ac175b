"""Compare the documents for users with the code: each lists exactly the items of the code."""

import pkgutil
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

import pytest
from starlette.routing import Route

import gateway.api
from gateway.api import page
from gateway.app import FACES
from gateway.cli import main
from gateway.client.arguments import COMMANDS
from gateway.client.model.exit_status import MEANINGS
from gateway.dialects.responses.fields import FIELDS, Use
from gateway.http.errors import Face
from shared.config.route_settings import ProviderSettings
from shared.config.settings import Settings, load_settings
from shared.model import bounds
from shared.model.events import EventType
from shared.model.lifecycle import TRANSITIONS
from shared.model.metrics import FleetMetrics, Metrics
from shared.store.keys import Keys
from shared.store.wire.rights import acl_rules
from tests.support.docs import DOCS, ROOT, anchors, links
from worker.execution.steps import AddDeadLetter, AddWebhookDelivery, LogEnd, RemoveQueueEntry, SettleChildren
from worker.model.breaker import Policy
from worker.model.retry import CLASSIFICATIONS, FailureClass

# Everything between backticks: in a line, and in blocks.
CODE = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", DOCS, flags=re.MULTILINE | re.DOTALL))
BLOCKS = re.findall(r"^```\w*\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)
# A command, perhaps with one of its actions.
COMMAND = "([a-z]+(?:-[a-z]+)*(?:(?<=dead-letters) [a-z]+)?)"
# Named, but made by the reader or by a command.
MADE_LATER = {".venv", ".tailrace", "tailrace.toml"}


def table(*heads: str) -> Iterator[list[str]]:
    """Yield the cells of each row of the table that begins like this."""
    _, begin, rest = DOCS.partition(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}\n")
    assert begin, heads
    for row in rest.split("\n\n")[0].splitlines():
        yield [cell.strip() for cell in row.strip("|").split("|")]


def shown(default: object) -> str:
    """Return a setting's default as the environment would have it."""
    if default is None or default in ((), {}):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) and not default.is_integer() else f"`{_whole(default)}`"


def _whole(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(default)
    return str(int(default)) if isinstance(default, float) else str(default)


def without_names(path: str) -> str:
    """Remove the names of an address's parameters."""
    return re.sub(r"\{[^}]*\}", "{}", path.partition("?")[0])


def test_the_settings_table_is_the_settings() -> None:
    rows = [tuple(cells) for cells in table("setting", "default", "meaning")]

    assert rows == [
        (f"`TAILRACE_{name.upper()}`", shown(field.default), field.description)
        for name, field in Settings.model_fields.items()
    ]


def test_the_table_of_completion_steps_is_them() -> None:
    rows = [(name, repeatable) for name, repeatable, _ in table("completion step", "repeatable", "effect")]

    assert rows == [
        (f"`{step.name}`", "yes" if step.repeatable else "no")
        for step in (AddDeadLetter, AddWebhookDelivery, SettleChildren, LogEnd, RemoveQueueEntry)
    ]


def test_the_table_of_provider_settings_is_them() -> None:
    rows = [tuple(cells) for cells in table("provider setting", "default", "meaning")]

    assert rows == [
        (f"`{name}`", "" if field.is_required() else shown(field.default), field.description)
        for name, field in ProviderSettings.model_fields.items()
    ]


def test_its_tailrace_toml_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```toml\n(.*?)```", DOCS, re.DOTALL)
    (tmp_path / "tailrace.toml").write_text(example)
    table = load_settings().route_table()

    assert [each.provider for each in table.route("anything").targets] == ["vllm", "openai"]


def test_the_circuits_are_as_it_says() -> None:
    assert Policy() == Policy(
        window_ms=30_000, min_calls=10, failure_ratio=0.5, open_ms=15_000, open_most_ms=120_000, probes=1
    )
    for words in (
        "If half of at least 10 calls to a provider's model fail within 30 s",
        "not called for 15 s",
        "one trial call at a time",
        "up to 2 minutes",
    ):
        assert words in " ".join(DOCS.split())


def test_the_address_of_the_examples_is_the_default() -> None:
    fields = Settings.model_fields

    assert f"TAILRACE=http://{fields['host'].default}:{fields['port'].default} " in DOCS


def test_the_table_of_a_jobs_life_is_the_lifecycle() -> None:
    rows = [tuple(cells) for cells in table("from", "action", "to")]

    assert rows == [(state.value, action.value, after.value) for (state, action), after in TRANSITIONS.items()]


def test_the_events_are_those_that_a_reader_can_see() -> None:
    named = {name for cells in table("event", "meaning") for name in re.findall(r"`(\w+)`", cells[0])}

    assert named == set(EventType)


def test_the_memory_table_adds_up() -> None:
    sizes: dict[str, int] = {}
    for what, most, sum_of in table("what", "holds at most", "which is"):
        terms = re.findall(r"(?:(\d+|`\w+`) × )?(`\w+_BYTES`|reader|job)", sum_of)
        sizes[what] = sum(_value(factor or "1", sizes) * _value(unit, sizes) for factor, unit in terms)
        assert most == f"{sizes[what] / bounds.MIB:.9g} MiB"

    assert list(sizes) == ["reader", "caller", "references", "job", "gateway", "worker"]


def test_the_open_files_that_a_gateway_needs_are_those_of_the_bounds() -> None:
    files = bounds.CONNECTIONS + bounds.SPARE_FILES

    assert f"A gateway takes {bounds.CONNECTIONS:,} connections" in DOCS
    assert f"(`ulimit -Hn`) is {files:,}" in DOCS


def _value(term: str, sizes: Mapping[str, int]) -> int:
    """Parse a number: a bound's, or that of a row above."""
    if term.isdecimal():
        return int(term)
    return sizes[term] if term in sizes else int(getattr(bounds, term.strip("`")))


def test_the_metrics_table_is_the_metrics() -> None:
    rows = [tuple(cells) for cells in table("metric", "type", "labels", "meaning")]
    families = [family for metrics in (FleetMetrics(), Metrics()) for family in metrics.families]

    assert rows == [
        (f"`{family.name}`", family.kind.value, ", ".join(f"`{label}`" for label in family.labels), family.help)
        for family in families
    ]


def test_the_metrics_without_a_process_are_the_first_in_the_table() -> None:
    assert "All but the first four have the label `process` too" in DOCS
    assert len(FleetMetrics().families) == 4


def test_the_metrics_that_it_names_exist() -> None:
    named = {name for text in (*CODE, *BLOCKS) for name in re.findall(r"\btailrace_\w+", text)}

    assert named == {family.name for metrics in (FleetMetrics(), Metrics()) for family in metrics.families}


def test_the_http_table_is_the_routes() -> None:
    listed: set[tuple[str, str]] = set()
    for call, _ in table("call", "answer"):
        method = ""
        for code in re.findall(r"`([^`]+)`", call):
            *words, path = code.split(" ")
            method = words[0] if words else method
            listed.add((method, without_names(path)))

    modules = [import_module(f"gateway.api.{module.name}") for module in pkgutil.iter_modules(gateway.api.__path__)]
    faces: list[Face] = [module.face for module in modules if hasattr(module, "face")]
    assert sorted(map(id, faces)) == sorted(map(id, FACES))
    routes = [route for face in faces if face is not page.face for route in face.routes if isinstance(route, Route)]
    there = {
        (method, without_names(route.path)) for route in routes for method in route.methods or () if method != "HEAD"
    }

    assert listed == there


def test_the_table_of_failures_is_that_of_the_code() -> None:
    reported = {
        code: (failure_class, "elsewhere" in follows or "another target" in follows)
        for codes, failure_class, follows in table("failure", "class", "what follows")
        for code in re.findall(r"`(\w+)`", codes)
    }

    assert {code: sort for code, (sort, _) in reported.items()} == {
        code: each.failure_class for code, each in CLASSIFICATIONS.items()
    }
    for code, classification in CLASSIFICATIONS.items():
        if classification.failure_class is FailureClass.DETERMINISTIC:
            assert reported[code][1] == classification.elsewhere


def test_the_exit_statuses_are_those_of_the_client() -> None:
    rows = [(int(status), meaning) for status, meaning in table("exit status", "meaning")]

    assert rows == [(status.value, meaning) for status, meaning in MEANINGS.items()]


def test_the_options_of_the_client_that_it_names_exist(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.partition(" #")[0] for text in (*CODE, *BLOCKS) for line in text.splitlines() if "tailrace " in line]
    named = {
        (command, option)
        for line in lines
        for command, rest in re.findall(rf"\btailrace {COMMAND}([^|)]*)", line)
        for option in re.findall(r"--[a-z-]+", rest)
    }

    assert {("submit", "--detach"), ("tail", "--events")} <= named
    for command, option in named:
        with pytest.raises(SystemExit):
            main([*command.split(), "--help"])
        assert f"{option} " in re.sub(r"[],\n]", " ", capsys.readouterr().out)


def test_the_headings_that_links_name_exist() -> None:
    named = [(file, anchor) for file, anchor in links() if anchor]

    assert named
    assert [anchor for file, anchor in named if anchor not in anchors(file)] == []


def test_the_readme_can_be_read_in_one_go() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 300


def test_the_files_that_it_names_exist() -> None:
    files = [file for file, _ in links()]
    modules = {path.name for folder in ("gateway", "shared", "worker") for path in (ROOT / folder).rglob("*.py")}
    for code in set(CODE) - MADE_LATER:
        if not re.fullmatch(r"[\w.-]+(/[\w.-]*)+|[\w-]*\.(py|md|toml|yaml|lua)|[A-Z]\w+file", code):
            continue
        if code not in modules:
            files += [ROOT / code if (ROOT / code).exists() else ROOT / f"{code}.py"]

    assert len(files) > 10
    assert [file for file in files if not file.exists()] == []


def test_the_make_targets_that_it_names_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for text in (*CODE, *BLOCKS) for target in re.findall(r"\bmake ([a-z]+)", text)}

    assert {"run", "test", "help", "check"} <= named <= targets


def test_the_tailrace_commands_that_it_names_exist(capsys: pytest.CaptureFixture[str]) -> None:
    named = {command for text in (*CODE, *BLOCKS) for command in re.findall(rf"\btailrace {COMMAND}", text)}

    assert {command.split()[0] for command in named} == {"up", "serve", "worker", *COMMANDS}
    for command in named:
        with pytest.raises(SystemExit) as ended:
            main([*command.split(), "--help"])
        assert ended.value.code == 0
        assert f"tailrace {command}" in capsys.readouterr().out


def test_each_field_of_a_response_stands_in_the_row_of_its_use() -> None:
    rows = {use: set(re.findall(r"`(\w+)`", fields)) for use, fields in table("use", "fields")}

    assert rows == {use.value: {name for name in FIELDS if FIELDS[name] is use} for use in Use}


def test_the_rights_of_a_user_are_those_that_are_tried() -> None:
    rules = " ".join(acl_rules(Keys()))

    assert f"ACL SETUSER app on >PASSWORD {rules}" in [" ".join(block.split()) for block in BLOCKS]
