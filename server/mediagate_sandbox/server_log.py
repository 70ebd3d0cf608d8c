"""Logger of the HTTP library's server, that writes no byte of what callers sent.

What is no HTTP (a request line that is none, bad headers, TLS) is counted: the library would write
a traceback that repeats it, whole.
"""

from __future__ import annotations

import logging
from pathlib import Path
from traceback import extract_tb

from aiohttp.http_exceptions import HttpProcessingError

from mediagate_sandbox.request_log import RequestLog

log = logging.getLogger("mediagate.sandbox")


class ServerLog(logging.Logger):
    """Counts malformed requests and says where a bug is; nothing else is told."""

    def __init__(self, observations: RequestLog) -> None:
        super().__init__("mediagate.sandbox.http", logging.DEBUG)
        self._observations = observations

    def handle(self, record: logging.LogRecord) -> None:
        """Look at the error alone: a record's words repeat what was sent."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            self._observations.malformed += 1
        elif error is not None:
            frames = extract_tb(error.__traceback__)
            at = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
            log.error("a request broke: %s at %s", type(error).__name__, at)
