"""Links in recorded responses: upstream's addresses, and the local ones that clients see.

A local link has the path of the real one, and its host before it unless it is upstream's own or a
stream's. Real links without their signatures are what a cassette holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from yarl import URL

from mediagate_sandbox.cassettes.json_strings import Change, parse_json, rewrite_strings, strings_in
from mediagate_sandbox.cassettes.redaction import WEBHOOK, redact_url
from mediagate_sandbox.urls import is_url

_OF_THE_API = frozenset({"get", "cancel", "stream", "web", "next", "previous"})
"""Names under which responses link to the API."""
_LONGEST = 4096
_DATA_LINE = re.compile(rb"(?m)^data: ?(.*?)\r?$")
_EVENT_NAME = re.compile(rb"(?m)^event: ?(.*?)\r?$")
DOCUMENT_EVENTS = (b"start", b"completed")
"""Events, of Cog's own dialect, that carry a prediction."""


class LinkTable:
    """Output files and streams, by their real and by their local links."""

    def __init__(self, upstream: str) -> None:
        """`upstream` is the origin of the API."""
        self._upstream = upstream
        self._local: dict[str, str] = {}
        self._real: dict[str, tuple[str, str]] = {}

    def add(self, url: str, *, is_stream: bool = False) -> str:
        """Add a link; the form of it that a cassette holds. The newest signature counts."""
        recorded = redact_url(url)
        path = self._local.get(recorded)
        if path is None:
            split = urlsplit(recorded)
            path = split.path + (f"?{split.query}" if split.query else "")
            is_own = is_stream or recorded.startswith(f"{self._upstream}/")
            if not is_own or _key(path) in self._real:
                path = f"/{split.netloc}{path}"
            self._local[recorded] = path
        self._real[_key(path)] = (url, recorded)
        return recorded

    def find(self, path: str) -> tuple[str, str] | None:
        """Find a link by its local path and query: the real one, and the recorded form of it."""
        return self._real.get(_key(path))

    def localize(self, origin: str, webhook: str | None = None) -> Change:
        """Return the change of a response's strings that makes all links local.

        `webhook` is the address of the caller's own.
        """

        def change(name: str, text: str) -> str:
            if name == "webhook" and text == WEBHOOK:
                return webhook or text
            if not text.startswith("http") or len(text) > _LONGEST:
                return text
            path = self._local.get(redact_url(text))
            if path is not None:
                return origin + path
            if name in _OF_THE_API and text.startswith(f"{self._upstream}/"):
                return origin + text.removeprefix(self._upstream)
            return text

        return change

    def restore(self, origin: str) -> Change:
        """Return the change of a request's strings that makes local links real."""

        def change(_: str, text: str) -> str:
            if not text.startswith(f"{origin}/") or len(text) > _LONGEST:
                return text
            path = text.removeprefix(origin)
            found = self.find(path)
            return self._upstream + path if found is None else found[0]

        return change


def output_links(output: Any) -> list[str]:
    """Return the links among the strings of an output."""
    return [text for text in strings_in(output) if text.startswith("http") and is_link(text)]


def is_link(text: str) -> bool:
    """Whether a whole text is one http link."""
    return len(text) <= _LONGEST and is_url(text) and urlsplit(text).path not in ("", "/")


def rewrite_event(block: bytes, change: Change, text: Callable[[str], str] | None) -> bytes:
    """Return a server-sent event with its data changed: JSON by `change`, the rest by `text`.

    Without `text` data that is no prediction stays as it is.
    """
    name = event_name(block)

    def rewrite(match: re.Match[bytes]) -> bytes:
        line, data = match.group(), match.group(1)
        if name not in DOCUMENT_EVENTS and text is None:
            return line
        if data[:1] in (b"{", b"[", b'"') and parse_json(data) is not None:
            changed = rewrite_strings(data, change)
        elif text is not None:
            changed = text(data.decode("utf-8", "surrogateescape")).encode(
                "utf-8", "surrogateescape"
            )
        else:
            changed = data
        return line if changed == data else line.replace(data, changed)

    return _DATA_LINE.sub(rewrite, block)


def event_name(block: bytes) -> bytes:
    """Return the name of a server-sent event; empty for a comment."""
    match = _EVENT_NAME.search(block)
    return match.group(1) if match else b""


def event_data(block: bytes) -> bytes:
    """Return the data of a server-sent event."""
    return b"\n".join(_DATA_LINE.findall(block))


def _key(path: str) -> str:
    return str(URL(path))
