"""Print the files of the pure modules, as coverage takes them: `python -m tests.support.pure`.

The list is that of import-linter's contract "pure" in pyproject.toml. Not here: the imports that it forbids.
"""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def pure_files() -> list[str]:
    """List the patterns of the pure modules' files, relative to the repository."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (modules,) = (contract["source_modules"] for contract in contracts if contract["id"] == "pure")
    paths = [module.replace(".", "/") for module in modules]
    return [f"{path}/**/*.py" if (ROOT / path).is_dir() else f"{path}.py" for path in paths]


if __name__ == "__main__":
    print(",".join(pure_files()))
