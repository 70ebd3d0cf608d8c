"""Log handler of the HTTP library that writes no byte of what callers sent.

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
    """Counts malformed requests and logs where a bug is, nothing else."""

    def __init__(self, request_log: RequestLog) -> None:
        super().__init__("mediagate.sandbox.http", logging.DEBUG)
        self._request_log = request_log

    def handle(self, record: logging.LogRecord) -> None:
        """Log only the error's type and place: a record's message repeats what was sent."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            self._request_log.malformed += 1
        elif error is not None:
            frames = extract_tb(error.__traceback__)
            at = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
            log.error("a request broke: %s at %s", type(error).__name__, at)
