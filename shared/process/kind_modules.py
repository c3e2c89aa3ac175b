"""Import the modules that `TAILRACE_KINDS` names, and find their kinds of jobs.

Not here: the decorator that makes a kind (shared/model/own_kinds.py).
"""

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from shared.model.errors import StartupError
from shared.model.own_kinds import OwnKind


def load_kinds(modules: Sequence[str]) -> tuple[OwnKind, ...]:
    """Return the kinds of these modules, in their order; one that several modules hold is returned once.

    Raises:
        StartupError: a module does not import, or has no kinds; the sentence names it.
    """
    found: list[OwnKind] = []
    for name in modules:
        own = [value for value in vars(_imported(name)).values() if isinstance(value, OwnKind)]
        if not own:
            raise StartupError(f"TAILRACE_KINDS names {name}, which must have a function with the decorator @kind.")
        found += (each for each in own if not any(each is former for former in found))
    return tuple(found)


def _imported(name: str) -> ModuleType:
    try:
        return import_module(name)
    except StartupError as error:
        raise StartupError(f"TAILRACE_KINDS names {name}: {error}") from error
    except Exception as error:  # it is a user's code, which may raise anything
        raise StartupError(
            f"TAILRACE_KINDS names {name}, which does not import: {type(error).__name__}: {error}. "
            "It must be installed, or lie in a folder of PYTHONPATH."
        ) from error
