"""The page and its files: served from the package, under a policy that lets nothing else run."""

import re
from importlib import resources

import pytest

from tests.support.client import Client

TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
FILES = sorted(each.name for each in resources.files("gateway").joinpath("web").iterdir() if each.is_file())
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}


async def test_the_page_is_served_without_a_key_and_under_a_strict_policy(client: Client) -> None:
    answer = await client.as_(None).get("/")
    assert answer.status == 200
    assert answer.headers["content-type"] == TYPES["html"]
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", FILES)
async def test_each_file_of_the_folder_is_served_with_its_media_type(client: Client, name: str) -> None:
    answer = await client.as_(None).get(f"/web/{name}")
    assert answer.status == 200
    assert answer.headers["content-type"] == TYPES[name.rpartition(".")[2]]
    assert "content-security-policy" in answer.headers
    assert answer.body == resources.files("gateway").joinpath("web", name).read_bytes()


async def test_the_page_requests_nothing_that_its_policy_forbids(client: Client) -> None:
    page = (await client.get("/")).body.decode()
    assert re.findall(r"<script(?![^>]*\ssrc=)", page) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=|javascript:", page) == []
    wanted = re.findall(r"""(?:src|href)=["']([^"'#]+)["']""", page)
    assert wanted
    for target in wanted:
        # Beside the page, which a proxy may show under a path of its own.
        assert target.startswith("web/"), target
        assert (await client.get(f"/{target}")).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/web/",
        "/web/nothing.js",
        "/web/index",
        "/web/.",
        "/web/..",
        "/web/../app.py",
        "/web/..%2fapp.py",
        "/web/%2e%2e%2fapp.py",
        "/web/..%5capp.py",
        "/web/%2fetc%2fpasswd",
        "/web//etc/passwd",
        "/web/....//app.py",
        "/web/index.html%00.js",
        "/web/__pycache__",
        "/index.html",
    ],
)
async def test_no_address_leads_out_of_the_folder(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_head_request_gets_no_body(client: Client) -> None:
    answer = await client.request("HEAD", "/")
    assert (answer.status, answer.headers["content-type"]) == (200, TYPES["html"])


async def test_a_file_that_has_not_changed_is_not_sent_again(client: Client) -> None:
    sent = await client.get("/web/chat.js")

    known = await client.get("/web/chat.js", headers={"If-None-Match": sent.headers["etag"]})
    changed = await client.get("/web/chat.js", headers={"If-None-Match": '"another"'})

    assert (known.status, known.body) == (304, b"")
    assert known.headers["cache-control"] == "no-cache"
    assert (changed.status, changed.body) == (200, sent.body)
