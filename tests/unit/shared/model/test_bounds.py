"""Test the bounds: each has its reason, none is defined elsewhere, and shared/store/functions has the same."""

import ast
import itertools
import re
from pathlib import Path

import pytest

from shared.model import bounds
from shared.store.function_library import read_source

ROOT = Path(__file__).parents[4]
SOURCE = (ROOT / "shared" / "model" / "bounds.py").read_text()
FUNCTIONS = read_source()
NAMES = [name for name in vars(bounds) if name.isupper() and name not in ("KIB", "MIB")]


def test_each_bound_has_its_reason() -> None:
    body = ast.parse(SOURCE).body
    explained = [
        each.target.id
        for each, then in itertools.pairwise(body)
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
        if isinstance(then, ast.Expr) and isinstance(then.value, ast.Constant) and isinstance(then.value.value, str)
    ]

    assert explained == NAMES
    assert len(NAMES) > 20


def test_no_other_module_has_a_size_of_its_own() -> None:
    modules = [path for part in ("gateway", "shared", "worker") for path in (ROOT / part).rglob("*.py")]
    elsewhere = [path.name for path in modules if re.search(r"\* 1024\b|\b1024 \*", path.read_text())]

    assert elsewhere == ["bounds.py"]


@pytest.mark.parametrize(
    ("local", "bound"),
    [("NUDGE_OVER", bounds.NUDGE_OVER), ("MAX_WAKE_UPS", bounds.WAKE_UPS), ("MAX_OVER", bounds.DEAD_LETTERS_OVER)],
)
def test_the_functions_have_the_same(local: str, bound: int) -> None:
    assert re.findall(rf"^local {local} = (\d+)", FUNCTIONS, re.MULTILINE) == [str(bound)]
