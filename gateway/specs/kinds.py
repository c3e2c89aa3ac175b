"""The kinds of jobs that a gateway admits: each is a value with the facts of the kind and the reader of its input.

A composition root may add others, with readers that another process can import: it reads large requests. Pure.
Not here: the readers of the built-in kinds (gateway/specs/validation.py), and the execution of a job
(worker/execution/executions.py).
"""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.specs.validation import read_chat, read_embedding_call, read_embedding_job
from shared.model.errors import StartupError
from shared.model.kinds import CHAT_KIND, EMBEDDINGS_KIND, KindSpec, ResultForm
from shared.model.registry import Registry

ReadInput = Callable[[Mapping[str, Any], dict[str, Any]], Mapping[str, Any]]
"""Read the body of `POST /v1/jobs`, and its fields that are not Tailrace's own; return the request to store.

Raises InvalidRequest with the field that is wrong.
"""


ReadCall = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Read the request of a dialect's call; return the request to store. Raises as `ReadInput` does."""


@dataclass(frozen=True, slots=True)
class KindAdmission:
    """One kind of job, as a gateway admits it. Without a `read_call`, `read_input` reads calls of dialects, too.

    Both are functions of a module, or other values that can be pickled: large requests are read in another process.
    """

    spec: KindSpec
    read_input: ReadInput
    read_call: ReadCall | None = None

    def __post_init__(self) -> None:
        try:
            pickle.dumps((self.read_input, self.read_call))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise StartupError(
                f"The kind {self.name} must read its input with a function of a module, because large requests are "
                "read in another process."
            ) from error

    @property
    def name(self) -> str:
        """Return the kind's name."""
        return self.spec.name

    def read(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read the request of a dialect's call, which holds no field of Tailrace's own.

        Raises:
            InvalidRequest: names the field and its valid values.
        """
        return self.read_input(request, dict(request)) if self.read_call is None else self.read_call(request)


class AdmittedKinds(Registry[KindAdmission]):
    """All kinds that a gateway admits. Jobs of other kinds may exist: a newer version may have made them."""

    def streams_text(self, kind: str) -> bool:
        """Return whether jobs of this kind stream text; False for an unknown kind."""
        return kind in self and self[kind].spec.streams_text

    def calls_provider(self, kind: str) -> bool:
        """Return whether jobs of this kind have a model; True for an unknown kind."""
        return kind not in self or self[kind].spec.calls_provider

    def result_form(self, kind: str) -> ResultForm:
        """Return the place of this kind's answers; for an unknown kind, the events, which every job has."""
        return self[kind].spec.result if kind in self else ResultForm.EVENTS


ADMITTED_KINDS: Final = AdmittedKinds(
    "kind",
    (
        KindAdmission(CHAT_KIND, read_chat),
        KindAdmission(EMBEDDINGS_KIND, read_embedding_job, read_embedding_call),
    ),
)
"""The kinds that each gateway admits."""
