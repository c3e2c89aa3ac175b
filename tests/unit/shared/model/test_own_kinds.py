"""Test the decorator of kinds that are functions: its value, and each way in which a function is refused."""

from typing import Any

import pytest
from pydantic import BaseModel

from shared.model.errors import StartupError
from shared.model.kinds import KindSpec, ResultForm
from shared.model.own_kinds import JobContext, OwnFunction, check_event_name, kind


class Text(BaseModel):
    """The input of the tests' kinds."""

    text: str


async def shout(job: JobContext, data: Text) -> str:
    return data.text.upper()


async def test_a_function_becomes_a_kind_that_can_still_be_called() -> None:
    made = kind("shout", timeout_s=5, max_attempts=2)(shout)
    job: Any = None

    assert (made.name, made.input_model, made.timeout_s, made.max_attempts) == ("shout", Text, 5, 2)
    assert made.spec == KindSpec("shout", ResultForm.VALUE, streams_text=False, calls_provider=False)
    assert await made(job, Text(text="hey")) == "HEY"


@pytest.mark.parametrize("name", ["", "Shout", "9lives", "a b", "a" * 65])
def test_a_malformed_name_of_a_kind_is_refused(name: str) -> None:
    with pytest.raises(StartupError, match="A kind's name must be up to 64 small letters"):
        kind(name)


def test_bounds_that_allow_nothing_are_refused() -> None:
    with pytest.raises(StartupError, match=r"^timeout_s of the kind shout must be more than 0 seconds\.$"):
        kind("shout", timeout_s=0)
    with pytest.raises(StartupError, match=r"^max_attempts of the kind shout must be at least 1\.$"):
        kind("shout", max_attempts=0)


def plain(job: JobContext, data: Text) -> None: ...


async def alone(data: Text) -> None: ...


async def loose(job: JobContext, data: dict[str, str]) -> None: ...


async def bare(job, data): ...  # type: ignore[no-untyped-def]


async def unknown(job: JobContext, data: "NoSuchModel") -> None: ...  # type: ignore[name-defined]  # noqa: F821


def local() -> OwnFunction:
    class Inner(BaseModel):
        pass

    async def nested(job: JobContext, data: Any) -> None: ...

    nested.__annotations__["data"] = Inner
    return nested


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (plain, r"^The kind shout must be an async function"),
        (alone, r"^The function of the kind shout must take two parameters"),
        (loose, r"^The input of the kind shout must be a pydantic model: annotate data"),
        (bare, r"^The input of the kind shout must be a pydantic model: annotate data"),
        (unknown, r"^The annotations of the kind shout can't be read: name 'NoSuchModel' is not defined"),
        (local(), r"^The input model of the kind shout must be a class of its module"),
    ],
)
def test_a_function_that_cannot_be_a_kind_is_refused(function: Any, sentence: str) -> None:
    with pytest.raises(StartupError, match=sentence):
        kind("shout")(function)


@pytest.mark.parametrize("name", ["index.built", "page", "a-b_c"])
def test_an_event_may_have_a_name_of_its_own(name: str) -> None:
    check_event_name(name)


@pytest.mark.parametrize("name", ["delta", "completed", "gap", "message", "error"])
def test_the_name_of_a_built_in_event_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is the name of a built-in event"):
        check_event_name(name)


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "Ä"])
def test_a_malformed_name_of_an_event_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="An event's name must be"):
        check_event_name(name)
