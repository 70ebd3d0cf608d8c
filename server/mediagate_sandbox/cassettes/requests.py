"""Requests as cassettes hold them, and what makes two of them the same.

Creates are the same if model (or version, or deployment) and input are, whatever the path, headers
and webhook: so a run that one program recorded can be replayed for another, in another language.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from mediagate_sandbox.cassettes.json_strings import Change, map_strings, parse_json

_CREATE = re.compile(r"/v1/(?:predictions|models/([^/]+/[^/]+)/predictions"
                     r"|(deployments/[^/]+/[^/]+)/predictions)")  # fmt: skip
_PREDICTION = re.compile(r"/v1/predictions/([^/?]+)(/cancel)?")
_RECORDED_HEADERS = ("Prefer", "Cancel-After", "Content-Type")
_NOT_COMPARED = frozenset({"webhook", "webhook_events_filter", "webhook_completed", "stream"})
_LONG_TEXT = 4096
_BOUNDARY = re.compile(r'boundary="?([^";]+)', re.IGNORECASE)
_CONTENT_PART = re.compile(rb'(?i)content-disposition:[^\r\n]*;\s*name="?content"?\s*(?:;|\r|$)')
TERMINAL_STATUSES = frozenset({"succeeded", "failed", "canceled", "aborted"})
_TIMES = re.compile(r"(?<=[?&])(created_(?:after|before))=[^&]*")
SECRET_PATH = "/v1/webhooks/default/secret"  # noqa: S105 - a path


def create_target(method: str, path: str, body: Any) -> str | None:
    """Return what a request would run: `owner/name`, a version id or `deployments/owner/name`.

    None if it is no create.
    """
    match = _CREATE.fullmatch(path) if method == "POST" else None
    if match is None:
        return None
    if match.group(1) or match.group(2):
        return unquote(match.group(1) or match.group(2))
    version = body.get("version") if isinstance(body, dict) else None
    if not isinstance(version, str):
        return ""
    return version.rpartition(":")[2] or version


def prediction_of(path: str) -> tuple[str, bool] | None:
    """Return the prediction that a path is about, and whether it is its cancel."""
    match = _PREDICTION.fullmatch(path)
    return None if match is None else (unquote(match.group(1)), match.group(2) is not None)


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a request that a cassette holds."""
    lower = {name.lower(): value for name, value in headers.items()}
    return {name: lower[name.lower()] for name in _RECORDED_HEADERS if name.lower() in lower}


def normalize_body(content_type: str, raw: bytes, redact: Change) -> Any:
    """Return a request's body as a cassette holds it: JSON without secrets, or what identifies it.

    Long texts, such as inline files, uploads and what is no JSON are told by their SHA-256.
    """
    if not raw:
        return None
    if content_type.startswith("multipart/"):
        return {"upload": _upload_sha256(content_type, raw)}
    document = parse_json(raw)
    if document is not None:

        def change(name: str, text: str) -> str:
            return shorten(redact(name, text))

        try:
            return map_strings(document, change)
        except RecursionError:
            pass
    return {"sha256": hashlib.sha256(raw).hexdigest()}


def shorten(text: str) -> str:
    """Return a text, or its hash if it is long."""
    if len(text) < _LONG_TEXT:
        # Halves of characters are no UTF-8.
        return text.encode("utf-8", "backslashreplace").decode()
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"sha256:{digest} of {len(text)} characters"


def compared_fields(target: str, body: Any) -> dict[str, Any]:
    """Return what a create is compared by."""
    if not isinstance(body, dict):
        return {"target": target, "body": body}
    fields = {name: value for name, value in body.items() if name not in _NOT_COMPARED}
    fields.pop("version", None)
    return {"target": target, **fields}


def read_key(method: str, target: str, body: Any) -> tuple[str, str, str]:
    """Return what any other request is known by; times in queries do not count."""
    content = body["upload"] if isinstance(body, dict) and "upload" in body else body
    return method, _TIMES.sub(r"\1", target), repr(content)


def _upload_sha256(content_type: str, raw: bytes) -> str:
    """Return the hash of the file in a multipart body; of all of it if there is none."""
    boundary = _BOUNDARY.search(content_type)
    for part in raw.split(b"--" + boundary.group(1).encode()) if boundary else ():
        head, _, content = part.partition(b"\r\n\r\n")
        if _CONTENT_PART.search(head):
            return hashlib.sha256(content.removesuffix(b"\r\n")).hexdigest()
    return hashlib.sha256(raw).hexdigest()
