"""Immutable registries: values of one sort by their names, such as the kinds of jobs.

A composition root passes a registry in; nothing registers itself when it is imported. Pure. Not here: the values.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, Self, TypeVar

from shared.model.errors import StartupError


class Named(Protocol):
    """A value that can be registered."""

    @property
    def name(self) -> str:
        """Return the name under which it is found."""
        ...


NamedT = TypeVar("NamedT", bound=Named)


class Registry(Mapping[str, NamedT]):
    """Values of one sort by their names, in their order. `noun` names the sort in error sentences."""

    def __init__(self, noun: str, values: Iterable[NamedT]) -> None:
        """Register these values.

        Raises:
            StartupError: two of them have the same name.
        """
        self._noun = noun
        self._values: dict[str, NamedT] = {}
        for value in values:
            if value.name in self._values:
                raise StartupError(f"Two {noun}s are named {value.name}; each must have a name of its own.")
            self._values[value.name] = value

    def __getitem__(self, name: str) -> NamedT:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def names(self) -> str:
        """Return all names, for a sentence about an unknown one."""
        return ", ".join(self._values)

    def adding(self, *values: NamedT) -> Self:
        """Return a registry of these values and its own; it stays as it is itself.

        Raises:
            StartupError: two of them have the same name.
        """
        return type(self)(self._noun, (*self._values.values(), *values))
