"""Logger of the HTTP library's servers, that writes no byte of what strangers sent.

Of a request that is no HTTP (a request line that is none, bad headers, TLS on a plain port) the
library writes a traceback that repeats it, whole: it is counted instead. Of a bug of ours it is
told where it is.
"""

import logging
from typing import Final

from aiohttp.http_exceptions import HttpProcessingError

from mediagate_server import telemetry
from mediagate_server.unexpected import broke


class ServerLog(logging.Logger):
    """Counts malformed requests to a port and reports bugs; nothing else is told.

    Not one of the process's tree of loggers: nobody else is to hear of a record.
    """

    def __init__(self, port: str) -> None:
        super().__init__(f"mediagate.http.{port}", logging.DEBUG)  # TLS is told of at this level.
        self._work: Final = f"{port} port"
        self._malformed: Final = telemetry.http_malformed.labels(port)

    def handle(self, record: logging.LogRecord) -> None:
        """Look at the error alone: a record's words repeat what was sent."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            self._malformed.inc()
        elif isinstance(error, Exception):
            broke(self._work, error)
