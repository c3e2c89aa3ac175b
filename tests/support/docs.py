"""The documents for users: the README and those of the packages, which tests compare with the code.

Not here: CHANGELOG.md, and the notes of single test folders.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FILES: Final = tuple(ROOT / folder / "README.md" for folder in (".", "gateway", "worker", "shared", "tests"))
DOCS: Final = "\n".join(file.read_text("utf-8") for file in FILES)
"""All of them, in the order in which one reads them."""


def links() -> Iterator[tuple[Path, str]]:
    """Yield each link to a file of the repository: the file, and the anchor, which may be empty."""
    for file in FILES:
        for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", file.read_text("utf-8")):
            yield (file.parent / path).resolve() if path else file.resolve(), anchor


def anchors(file: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
