"""Page sizes and page tokens: opaque to callers, bound to the request they were given out for."""

import base64
import binascii
import hashlib
import json
from typing import Any

from google.protobuf.message import Message as ProtoMessage

from mediagate_server.errors import InvalidRequest

_USUAL, _MOST = 50, 1000


def page_size(asked: int) -> int:
    """0 is the usual size; more than the most is the most."""
    return min(asked, _MOST) or _USUAL


def scope_of(*parts: ProtoMessage | str | int) -> str:
    """What a token is bound to: a short digest of everything but the page itself."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.SerializeToString(deterministic=True) if isinstance(part, ProtoMessage) else part
        digest.update(repr(raw).encode())
    return digest.hexdigest()[:16]


def write_token(position: list[Any], scope: str) -> str:
    """A token for the page after `position`."""
    return base64.urlsafe_b64encode(json.dumps([scope, position]).encode()).decode()


def read_token(token: str, scope: str) -> list[Any] | None:
    """The position in a token; None for the first page. InvalidRequest where it is not ours."""
    if not token:
        return None
    try:
        document = json.loads(base64.urlsafe_b64decode(token.encode()))
        found, position = document
    except (binascii.Error, ValueError, TypeError):
        raise not_given_out() from None
    if found != scope or not isinstance(position, list):
        raise not_given_out()
    return position


def not_given_out() -> InvalidRequest:
    """What is said of a token that is none of ours."""
    return InvalidRequest.of("page_token", "was not given out for this request")
