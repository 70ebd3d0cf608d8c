"""Page tokens: signed, and bound to the request that they were issued for; and page sizes.

A token holds the position where its page ended, and an HMAC-SHA-256 over that position, the rpc,
the tenant and everything in the request but the page itself. So whatever is read from one was
written by this server for this very list; it stays valid across restarts, as the key does.
"""

import base64
import binascii
import hmac
import json
from typing import Any, Final

from google.protobuf.message import Message as ProtoMessage

from mediagate_server import rpc_context
from mediagate_server.errors import InvalidRequest

_DEFAULT_SIZE, _MAX_SIZE = 50, 1000
_PURPOSE: Final = "page token, version 1"
"""Signed along, so that nothing else signed with the key is ever a token."""
_SIGNATURE_BYTES: Final = 16


def effective_page_size(requested: int) -> int:
    """The page size: the default for 0, and never more than the maximum."""
    return min(requested, _MAX_SIZE) or _DEFAULT_SIZE


class PageTokens:
    """Writes and reads page tokens. `key` is secret, and the same after a restart."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def for_request(self, rpc: str, *fields: ProtoMessage | str | int) -> "ListPageTokens":
        """The tokens of one list: what the current caller asks an rpc for, page by page.

        `fields` are everything in the request but the page.
        """
        scope = [_PURPOSE, rpc, rpc_context.current_caller().tenant, *map(_as_text, fields)]
        return ListPageTokens(self._key, json.dumps(scope).encode())


class ListPageTokens:
    """The tokens of the pages of one list."""

    def __init__(self, key: bytes, scope: bytes) -> None:
        self._key = key
        self._scope = scope

    def write(self, position: list[Any]) -> str:
        """A token for the page after `position`."""
        return self._sign(json.dumps(position).encode())

    def read(self, token: str) -> list[Any] | None:
        """The position in a token; None for the first page. InvalidRequest where it is not ours."""
        if not token:
            return None
        try:
            content = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        except binascii.Error:
            raise _token_invalid() from None
        signature, raw = content[:_SIGNATURE_BYTES], content[_SIGNATURE_BYTES:]
        # Compared as written, too: bits that base64 leaves unused make no second token.
        if not hmac.compare_digest(signature, self._signature(raw)) or self._sign(raw) != token:
            raise _token_invalid()
        position: list[Any] = json.loads(raw)
        return position

    def _sign(self, raw: bytes) -> str:
        return base64.urlsafe_b64encode(self._signature(raw) + raw).decode()

    def _signature(self, raw: bytes) -> bytes:
        signed = len(self._scope).to_bytes(4, "big") + self._scope + raw
        return hmac.digest(self._key, signed, "sha256")[:_SIGNATURE_BYTES]


def _as_text(field: ProtoMessage | str | int) -> str | int:
    if isinstance(field, ProtoMessage):
        return field.SerializeToString(deterministic=True).hex()
    return field


def _token_invalid() -> InvalidRequest:
    """The error for a token that this server did not issue for this request."""
    return InvalidRequest.of("page_token", "was not given out for this request")
