"""Origins and URLs: checks. An origin is scheme, host and perhaps a port, `http://box:8787`."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_HOST = rf"(?:{_LABEL}\.)*{_LABEL}\.?"
_ORIGIN = re.compile(rf"https?://(?:\[([0-9A-Fa-f:.]+)\]|{_HOST})(?::([0-9]{{1,5}}))?")
_LAST_PORT = 65535


def is_origin(text: str) -> bool:
    """Whether the text is an http or https origin that a client could call."""
    return _length(text) == len(text)


def is_url(text: str) -> bool:
    """Whether the text is an origin, alone or followed by a path, a query or a fragment."""
    length = _length(text)
    rest = text[length:]
    return length > 0 and rest[:1] in ("", "/", "?", "#") and rest.isprintable() and " " not in rest


def _length(text: str) -> int:
    """Return the length of the origin at the start of the text; 0 if there is none."""
    match = _ORIGIN.match(text)
    if match is None:
        return 0
    address, port = match.groups()
    if port is not None and int(port) > _LAST_PORT:
        return 0
    if address is not None:
        try:
            IPv6Address(address)
        except AddressValueError:
            return 0
    return match.end()
