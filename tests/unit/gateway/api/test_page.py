"""Test which files of the page's folder are served. With a real gateway: tests/interaction/test_page.py."""

from pathlib import Path

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Scope

from gateway.api.page import PageFiles

SCOPE: Scope = {"type": "http", "method": "GET", "headers": []}


async def test_a_file_of_an_unknown_type_is_not_served(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>")
    (tmp_path / "page.html~").write_text("<p>")
    files = PageFiles(directory=tmp_path)

    assert (await files.get_response("page.html", SCOPE)).status_code == 200
    with pytest.raises(HTTPException) as refused:
        await files.get_response("page.html~", SCOPE)
    assert refused.value.status_code == 404
