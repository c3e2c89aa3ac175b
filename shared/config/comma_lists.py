"""The type of settings that hold several texts, separated by commas.

Pure. Not here: the settings of this type.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_settings import NoDecode


def split_by_commas(value: Any) -> Any:
    """Split a text at its commas; leave any other value to the type's own check."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_by_commas)]
"""Several texts that are written as one text, with commas between them."""
