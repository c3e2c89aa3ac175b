"""Read a person's name for a job: its id in any dialect, an address of the API, or the chat it answers in. Pure.

A chat's id may be any text that its page chooses, so that only `--chat` distinguishes it from a job's. Not here:
whether the job exists, and the gateway's address.
"""

import re
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from shared.model.jobs import is_job_id

# How the dialects begin the id of a job (gateway/dialects).
PREFIXES = ("job_", "resp_", "chatcmpl-", "cmpl-")
_JOB_PATH = re.compile(r"(.*)/v1/(?:jobs|responses|(?:chat/)?completions)/([^/]+)(?:/[a-z_]+)?/?")
_CHAT_PATH = re.compile(r"(.*)/api/chat/(.+)/(?:stream|stop)/?")


class Reference(NamedTuple):
    """A job's id or a chat's id; from an address also its gateway, and the token that opens the events."""

    job_id: str | None = None
    chat_id: str | None = None
    gateway: str | None = None
    token: str | None = None


def read_reference(text: str) -> Reference | None:
    """Read an id or an address; None if it is neither. An address may lack its gateway, as `links` of a job do."""
    if (job_id := _job_id(text)) is not None:
        return Reference(job_id)
    try:
        url = urlsplit(text)
    except ValueError:
        return None
    if bool(url.scheme) != bool(url.netloc) or url.scheme not in ("", "http", "https"):
        return None
    gateway = f"{url.scheme}://{url.netloc}" if url.netloc else ""
    if path := _JOB_PATH.fullmatch(url.path):
        token = parse_qs(url.query).get("token", [None])[0]
        job_id = _job_id(path[2])
        return None if job_id is None else Reference(job_id, None, _below(gateway, path[1]), token)
    if path := _CHAT_PATH.fullmatch(url.path):
        return Reference(None, unquote(path[2]), _below(gateway, path[1]))
    return None


def _job_id(text: str) -> str | None:
    """Read the job of an id in any dialect."""
    for prefix in PREFIXES:
        if text.startswith(prefix) and is_job_id(job_id := "job_" + text.removeprefix(prefix)):
            return job_id
    return None


def _below(gateway: str, path: str) -> str | None:
    return gateway + path if gateway else None
