"""Admit jobs of kinds that are functions: a kind's own pydantic model reads the input.

The model alone is part of an admission, because another process reads large inputs. Pure. Not here: loading the kinds
(shared/process/kind_modules.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from gateway.specs.job_parents import AFTER
from gateway.specs.kinds import KindAdmission
from shared.model.errors import InvalidRequest
from shared.model.own_kinds import OwnKind
from shared.model.references import holds_values

_INPUT: Final = "input"


@dataclass(frozen=True, slots=True)
class JobInput:
    """Read the input in the body of `POST /v1/jobs`."""

    kind: str
    model: type[BaseModel]

    def __call__(self, body: Mapping[str, Any], request: dict[str, Any]) -> Mapping[str, Any]:
        """Return the request to store. Raises InvalidRequest with the field that is wrong."""
        for name in request:
            if name != _INPUT:
                raise InvalidRequest(f"{name} is not a field of a job of kind {self.kind}; use input.", param=name)
        if not isinstance(request.get(_INPUT), dict):
            raise InvalidRequest(f"input must be an object: the input of the kind {self.kind}.", param=_INPUT)
        # The worker checks an input that takes a value from another job: the value is not known yet.
        if body.get(AFTER) is None or not holds_values(request[_INPUT], _INPUT):
            _check(self.model, request[_INPUT], _INPUT)
        return request


@dataclass(frozen=True, slots=True)
class TaskInput:
    """Read the input that is the body of `POST /tasks`."""

    model: type[BaseModel]

    def __call__(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the request to store. Raises InvalidRequest with the field that is wrong."""
        _check(self.model, request, "")
        return {_INPUT: request}


def admission_of(own: OwnKind) -> KindAdmission:
    """Return the admission of the jobs of a kind."""
    return KindAdmission(own.spec, JobInput(own.name, own.input_model), TaskInput(own.input_model))


def _check(model: type[BaseModel], given: Mapping[str, Any], root: str) -> None:
    try:
        model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field, message = _path(root, first["loc"]), first["msg"]
        raise InvalidRequest(f"{field or 'The body'} is refused: {message}.", param=field or None) from None


def _path(root: str, loc: Sequence[int | str]) -> str:
    path = root
    for step in loc:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path
