"""The kinds of jobs that are functions of a user's module: the decorator `@kind`, and the value that it makes.

Pure. The decorator registers nothing: a module's kinds are its values of `OwnKind` (shared/process/kind_modules.py).
Not here: the admission of their jobs (gateway/specs/own_kinds.py), and the run of a function
(worker/execution/own_function.py).
"""

import inspect
import re
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pydantic import BaseModel

from shared.model.errors import StartupError
from shared.model.events import EventType
from shared.model.kinds import KindSpec, ResultForm

_KIND_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_EVENT_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
# Names that a browser's EventSource uses for itself.
_RESERVED: Final = frozenset({*EventType, "message", "open", "error"})


class JobContext(Protocol):
    """One attempt of a job, as its function sees it. It is usable until the function returns."""

    @property
    def id(self) -> str:
        """Return the job's id."""
        ...

    @property
    def attempt(self) -> int:
        """Return the number of this attempt; the first is 1."""
        ...

    @property
    def cancelled(self) -> bool:
        """Return whether the function is being stopped; it also gets a `CancelledError`."""
        ...

    @property
    def resume_from(self) -> Any:
        """Return the data of the last checkpoint of an earlier attempt; None if there is none."""
        ...

    async def checkpoint(self, data: Any) -> None:
        """Store how far the function is, durably: the next attempt gets this value of JSON as `resume_from`.

        It returns when the data is stored, and replaces the checkpoint before.

        Raises:
            ValueError: the data is not a value of JSON, is None, or is larger than `CHECKPOINT_BYTES`.
        """
        ...

    async def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Report the progress, in an event and in the job's record: at most four times a second, and the last one.

        Raises:
            ValueError: a value can't be used.
        """
        ...

    async def emit(self, name: str, data: Any) -> None:
        """Write an event of this name to the job's stream; the data is a JSON object.

        Raises:
            ValueError: the name or the data can't be used.
        """
        ...


OwnFunction = Callable[[JobContext, Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class OwnKind:
    """One kind of job that is a function. It can be called as the function itself.

    `timeout_s` bounds one attempt; None: the job's own time is the only bound.
    """

    name: str
    function: OwnFunction
    input_model: type[BaseModel]
    timeout_s: float | None
    max_attempts: int

    def __call__(self, job: JobContext, data: Any) -> Awaitable[Any]:
        """Call the function."""
        return self.function(job, data)

    @property
    def spec(self) -> KindSpec:
        """Return the facts of the kind."""
        return KindSpec(self.name, ResultForm.VALUE, streams_text=False, calls_provider=False)


def kind(name: str, *, timeout_s: float | None = None, max_attempts: int = 3) -> Callable[[OwnFunction], OwnKind]:
    """Make a kind of job of an async function: `async def index(job: JobContext, data: SomeModel) -> dict`.

    Raises:
        StartupError: the name, a bound or the function can't be used; the sentence says what would be right.
    """
    if _KIND_NAME.fullmatch(name) is None:
        raise StartupError(
            f"A kind's name must be up to 64 small letters, digits, - and _, and begin with a letter; {name!r} is not."
        )
    if timeout_s is not None and timeout_s <= 0:
        raise StartupError(f"timeout_s of the kind {name} must be more than 0 seconds.")
    if max_attempts < 1:
        raise StartupError(f"max_attempts of the kind {name} must be at least 1.")

    def made(function: OwnFunction) -> OwnKind:
        return OwnKind(name, function, _input_model(name, function), timeout_s, max_attempts)

    return made


def check_event_name(name: str) -> None:
    """Check the name of an event of a function's own.

    Raises:
        ValueError: it is the name of a built-in event, or no name.
    """
    if name in _RESERVED:
        raise ValueError(f"{name} is the name of a built-in event; choose another one.")
    if _EVENT_NAME.fullmatch(name) is None:
        raise ValueError("An event's name must be up to 64 small letters, digits, -, _ and ., and begin with a letter.")


def _input_model(name: str, function: OwnFunction) -> type[BaseModel]:
    if not inspect.iscoroutinefunction(function):
        raise StartupError(f"The kind {name} must be an async function: async def, with a job and its input.")
    parameters = list(inspect.signature(function).parameters)
    if len(parameters) != 2:
        raise StartupError(f"The function of the kind {name} must take two parameters: the job, and its input.")
    try:
        model = typing.get_type_hints(function).get(parameters[1])
    except NameError as error:
        raise StartupError(f"The annotations of the kind {name} can't be read: {error}.") from error
    if not (inspect.isclass(model) and issubclass(model, BaseModel)):
        raise StartupError(
            f"The input of the kind {name} must be a pydantic model: annotate {parameters[1]} with a class of one."
        )
    if "<locals>" in model.__qualname__:
        raise StartupError(f"The input model of the kind {name} must be a class of its module, not of a function.")
    return model
