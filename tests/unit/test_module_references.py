"""Test that docstrings and comments name modules that exist, by a path that a newcomer can open.

Not here: the README's paths (test_readme.py).
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("gateway", "worker", "shared")
SOURCES = [
    path for package in PACKAGES for kind in ("py", "lua") for path in sorted((ROOT / package).rglob(f"*.{kind}"))
]
REFERENCE = re.compile(r"(?<![\w./*-])[\w/]*\w\.(?:py|lua)\b")


def broken_references(text: str, folder: Path) -> list[str]:
    """List the modules in `text` that are neither in `folder` nor at a path from the repository's root."""
    return [name for name in REFERENCE.findall(text) if not (folder / name).is_file() and not (ROOT / name).is_file()]


def test_a_module_of_another_folder_is_named_by_its_whole_path() -> None:
    folder = ROOT / "shared" / "store"

    assert broken_references("See queue.py, and shared/model/jobs.py.", folder) == []
    assert broken_references("See lanes.py, and model/jobs.py, and valkey.lua.", folder) == [
        "lanes.py",
        "model/jobs.py",
        "valkey.lua",
    ]


def test_each_module_that_a_source_names_exists() -> None:
    broken = {str(path.relative_to(ROOT)): broken_references(path.read_text("utf-8"), path.parent) for path in SOURCES}

    assert {path: names for path, names in broken.items() if names} == {}
