"""Test the client's command line: the arguments it accepts and refuses, and the request it builds."""

import argparse
from typing import Any

import pytest

from gateway.client.arguments import COMMANDS, EXIT_STATUSES, add_commands, filters_of, request_of
from gateway.client.model.reference import Reference
from shared.model.events import EventId

JOB = "job_" + "0" * 26
ACTIONS = ("list", "show", "requeue", "delete")


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tailrace")
    add_commands(parser.add_subparsers(dest="command", required=True))
    return parser.parse_args(arguments)


def request(*arguments: str) -> dict[str, Any]:
    return request_of(parse("submit", *arguments), "Hello?", "small")


@pytest.mark.parametrize("command", [*COMMANDS, *(f"dead-letters {action}" for action in ACTIONS)])
def test_the_help_of_each_command_has_the_exit_statuses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(*command.split(), "--help")

    assert end.value.code == 0
    said = capsys.readouterr().out
    assert EXIT_STATUSES in said
    assert "TAILRACE_URL" in said
    assert max(map(len, said.splitlines())) <= 100


def test_a_prompt_alone_is_a_request_with_one_message() -> None:
    assert request("Hello?") == {"model": "small", "messages": [{"role": "user", "content": "Hello?"}]}


def test_each_option_has_its_field() -> None:
    options = (
        "--system",
        "Be brief.",
        "--lane",
        "fast",
        "--timeout",
        "30",
        "--on-disconnect",
        "cancel",
        "--abandon-after",
        "60",
    )

    assert request(*options, "--param", "n=2", "--param", 'stop=["a=b"]', "Hello?") == {
        "model": "small",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}],
        "lane": "fast",
        "timeout_s": 30.0,
        "on_disconnect": "cancel",
        "abandon_after_s": 60,
        "n": 2,
        "stop": ["a=b"],
    }


@pytest.mark.parametrize(
    "arguments",
    [("--tenant", "bob", "--json", "list"), ("list", "--tenant", "bob", "--json"), ("--tenant", "bob", "--json")],
)
def test_options_of_dead_letters_stand_before_or_after_the_action(arguments: tuple[str, ...]) -> None:
    options = parse("dead-letters", *arguments)

    assert (options.action, options.json, options.limit, options.patience) == ("list", True, None, None)
    assert filters_of(options) == {"tenant": "bob"}


def test_each_filter_of_dead_letters_has_its_field() -> None:
    filters = ("--tenant", "bob", "--code", "broken_job", "--model", "m", "--requeued", "any")
    options = parse("dead-letters", "requeue", "--all", *filters, "--patience", "1")

    assert (options.action, options.all, options.jobs, options.patience) == ("requeue", True, [], 1.0)
    assert filters_of(options) == {"tenant": "bob", "code": "broken_job", "model": "m", "requeued": "any"}


def test_a_cursor_is_an_event_id() -> None:
    assert parse("tail", JOB, "--from", "1-17").cursor == EventId(1, 17)
    assert parse("tail", JOB).cursor is None


def test_jobs_are_named_by_their_ids_or_by_their_chats() -> None:
    assert parse("tail", JOB).job == Reference(JOB)
    assert parse("tail", "--chat", JOB).chat == Reference(chat_id=JOB)
    assert parse("cancel", JOB, JOB).jobs == [Reference(JOB)] * 2
    assert parse("cancel", "--chat", "a", "--chat", "b").chat == [Reference(chat_id="a"), Reference(chat_id="b")]


def test_a_job_may_come_after_others() -> None:
    assert request("--after", f"a={JOB}", "--after", f"b={JOB}", "{{a}}")["after"] == {"a": JOB, "b": JOB}
    assert "after" not in request("Hello?")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("submit", "--after", "outline"), "argument --after: 'outline' is not NAME=JOB"),
        (("submit", "--after", f"a b={JOB}"), "argument --after: 'a b="),
        (("submit", "--after", "a=job_1"), "argument --after: 'a=job_1' is not NAME=JOB"),
        (("submit", "--after", f"a={JOB}", "--after", f"a={JOB}"), "argument --after: a is given twice"),
        (("submit", "--param", "after={}"), "argument --param: after is set by --after"),
        (("submit", "--param", "temperature"), "argument --param: 'temperature' is not NAME=JSON"),
        (("submit", "--param", "=1"), "argument --param: '=1' is not NAME=JSON"),
        (
            ("submit", "--param", "stop=END"),
            "argument --param: the value of stop is not JSON; a string needs quotes",
        ),
        (("submit", "--param", "model=1"), "argument --param: model is set by --model"),
        (("submit", "--param", "messages=[]"), "argument --param: messages is set by the prompt and --system"),
        (("submit", "--timeout", "soon"), "argument --timeout: 'soon' is not a number of seconds"),
        (("submit", "--timeout", "-1"), "argument --timeout: "),
        (("submit", "--abandon-after", "soon"), "argument --abandon-after: 'soon' is not a number of seconds"),
        (("submit", "--patience", "inf"), "argument --patience: 'inf' is not a number of seconds"),
        (("submit", "--patience", "nan"), "argument --patience: 'nan' is not a number of seconds"),
        (("submit", "--model", " "), "argument --model: it must not be empty"),
        (("submit", "--idempotency-key", ""), "argument --idempotency-key: it must be printable ASCII characters"),
        (("submit", "--idempotency-key", "é"), "argument --idempotency-key: it must be printable ASCII characters"),
        (("submit", "--param", "n=NaN"), "argument --param: the value of n is not JSON"),
        (("submit", "--param", "n=1e999"), "argument --param: the value of n is not JSON"),
        (("submit", "--param", "n=" + "[" * 100_000), "argument --param: the value of n is not JSON"),
        (("submit", "--detach", "--stream", "hi"), "argument --stream: not allowed with argument --detach"),
        (("tail", JOB, "--events", "--stream"), "argument --stream: not allowed with argument --events"),
        (("tail", "../jobs"), "argument JOB: '../jobs' is not a job id"),
        (("tail", JOB, "--from", "17"), "argument --from: The cursor must be an event id"),
        (("tail", "my-chat"), "argument JOB: 'my-chat' is not a job id (job_, resp_, chatcmpl- or cmpl- and 26"),
        (("tail", JOB, "--chat", "c"), "argument --chat: not allowed with argument JOB"),
        (("tail", "--chat", "é"), "argument --chat: it must be printable ASCII characters"),
        (("tail",), "one of the arguments JOB --chat is required"),
        (("cancel",), "one of the arguments JOB --chat is required"),
        (("cancel", JOB, "x"), "argument JOB: 'x' is not a job id"),
        (("jobs", "--limit", "0"), "argument --limit: '0' is not a whole number of at least 1"),
        (("jobs", "--limit", "9" * 5000), "argument --limit: "),
        (("jobs", "--status", "asleep"), "argument --status: invalid choice: 'asleep'"),
    ],
)
def test_a_mistake_is_named(arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(*arguments)

    assert end.value.code == 2
    assert f"tailrace {arguments[0]}: error: {sentence}" in capsys.readouterr().err


def test_each_line_of_a_prompt_is_embedded_for_itself() -> None:
    options = parse("submit", "--embed", "--lane", "low", "--param", "dimensions=8")

    assert request_of(options, "one\r\n\n  two \u2028 too\n", "small") == {
        "kind": "embeddings",
        "model": "small",
        "input": ["one", "  two \u2028 too"],
        "lane": "low",
        "dimensions": 8,
    }


def test_embedding_refuses_a_system_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("submit", "--embed", "--system", "Be brief.")
    assert "not allowed with argument --embed" in capsys.readouterr().err
