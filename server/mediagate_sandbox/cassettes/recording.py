"""Recording: what passed is redacted and appended to the cassette."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mediagate_sandbox.cassettes.cassette_file import CassetteWriter, MediaFolder
from mediagate_sandbox.cassettes.json_strings import parse_json, rewrite_strings
from mediagate_sandbox.cassettes.links import rewrite_event
from mediagate_sandbox.cassettes.redaction import Redactor, redact_url
from mediagate_sandbox.cassettes.requests import kept_headers, normalize_body
from mediagate_sandbox.cassettes.upstream_client import Download, UpstreamResponse

log = logging.getLogger("mediagate.sandbox")

_KEPT_HEADERS = frozenset(
    {"content-type", "etag", "last-modified", "cache-control", "content-disposition"}
    | {"preference-applied", "location", "link", "allow", "retry-after"}
    | {"ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "ratelimit-policy"}
)


class Recording:
    """One cassette that is being written."""

    def __init__(self, writer: CassetteWriter, now: Callable[[], float]) -> None:
        """`now` gives seconds since the recording began."""
        self._writer = writer
        self.now = now
        self.redactor = Redactor()
        self.exchanges = 0

    @property
    def is_complete(self) -> bool:
        """Whether all could be written so far."""
        return self._writer.is_open

    @property
    def media(self) -> MediaFolder:
        """Folder of the media."""
        return self._writer.media

    def exchange(
        self,
        at: float,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
        response: UpstreamResponse,
        *,
        took: float,
        private: Iterable[str] = (),
        links: Iterable[str] = (),
    ) -> None:
        """Record a request and its response; `private` are secrets of these two alone."""
        self.exchanges += 1
        redact = self.redactor.change(private)
        content_type = {k.lower(): v for k, v in headers.items()}.get("content-type", "")
        self._append(
            lambda: {
                "kind": "exchange",
                "at": at,
                "took": took,
                "request": {
                    "method": method,
                    "target": self.redactor.text(redact_url(target)),
                    "headers": {k: redact("", v) for k, v in kept_headers(headers).items()},
                    "body": normalize_body(content_type, body, redact),
                },
                "response": {
                    "status": response.status,
                    "headers": {
                        str(name): redact("", value)
                        for name, value in response.headers.items()
                        if name.lower() in _KEPT_HEADERS
                    },
                    "body": self._encode(response.body, private),
                },
                "links": list(links),
            }
        )

    def event(
        self, stream: str, block: bytes, *, private: Iterable[str], links: Iterable[str]
    ) -> None:
        """Record one server-sent event of a stream."""
        redact = self.redactor.change(private)
        shown = rewrite_event(block, redact, lambda text: redact("", text))
        self._append(
            lambda: {
                "kind": "event",
                "at": self.now(),
                "stream": stream,
                "body": self.media.encode(shown),
                "links": list(links),
            }
        )

    def webhook(
        self, identifier: str, run: str, body: bytes, *, private: Iterable[str], links: list[str]
    ) -> None:
        """Record a webhook."""
        self._append(
            lambda: {
                "kind": "webhook",
                "at": self.now(),
                "id": identifier,
                "run": run,
                "body": self._encode(body, private),
                "links": links,
            }
        )

    def file(self, url: str, download: Download) -> None:
        """Record the download of an output file."""
        self._append(
            lambda: {
                "kind": "file",
                "at": self.now(),
                "url": url,
                "status": download.status,
                "headers": dict(download.headers),
                "body": "" if download.file is None else download.file.body,
            }
        )

    def _encode(self, content: bytes, private: Iterable[str]) -> Any:
        redact = self.redactor.change(private)
        if parse_json(content) is not None:
            return self.media.encode(rewrite_strings(content, redact))
        try:
            return self.media.encode(redact("", content.decode()).encode())
        except UnicodeDecodeError:
            return self.media.encode(content)

    def _append(self, make_entry: Callable[[], Mapping[str, Any]]) -> None:
        """Append an entry, whose media are stored as it is made; a failure ends the recording."""
        if not self._writer.is_open:
            return
        try:
            self._writer.append(make_entry())
        except OSError as failure:
            log.error("the recording has ended: %s", failure.strerror)  # noqa: TRY400
            self._writer.close()
