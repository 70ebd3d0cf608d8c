"""Structured logging: lines of JSON or of text, and a writer with one write per loop iteration.

Every write lets go of the interpreter's lock, and under load another thread takes it before the
loop goes on: a write for each line would cost more than making the line.

Whoever reads the other end of a pipe may stop reading (a log collector that stalls, a terminal
that is held): a write that waited for it would stop the server. So a pipe is written to only where
it has room, and what it has no room for waits here, up to a limit.
"""

import asyncio
import atexit
import contextlib
import json
import logging
import os
import re
import select
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable, MutableMapping
from functools import lru_cache
from typing import Any, Final, TextIO, cast

import orjson
import structlog

from mediagate_server.observability.metrics import log_lines_lost

MAX_WAITING_LINES: Final = 10_000
"""Lines that wait for a reader who has stopped; more of them are dropped."""
_PIPE_BYTES: Final = select.PIPE_BUF
"""Bytes that fit for certain where poll() says that there is room; see pipe(7)."""
_RETRY_SECONDS: Final = 0.02
"""Seconds until a write is tried again where the reader has stopped."""
_FINAL_WAIT: Final = 1.0
"""Seconds that the end of the process may wait for a reader."""
_NOTHING: Final = memoryview(b"")
_LIBRARY_JSON: Final = '{"level":"%(levelname)s","logger":"%(name)s","event":"%(message)s"}'
_LIBRARY_TEXT: Final = "%(levelname)s %(name)s: %(message)s"
_PLAIN: Final = re.compile(r"[\w.:/@+-]+")
"""Values that need no quotes, and hold nothing that a terminal would obey."""


class BufferedLogWriter:
    """File-like writer of log lines. Outside an event loop they are written at once.

    In one they are written when its current iteration is over, so that a process which is killed
    loses the lines of one iteration at most. `lost` is called for every line that is dropped
    because too many wait for a reader.
    """

    def __init__(self, target: TextIO, lost: Callable[[], object] = lambda: None) -> None:
        self._target: Final = target
        self._lost: Final = lost
        self._pipe: Final = _NonBlockingPipe.of(target)
        self._waiting: deque[str] = deque()
        self._partial = _NOTHING
        """Lines that were taken from the buffer, and of which the pipe has a part or nothing."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock: Final = threading.Lock()
        atexit.register(self._write_at_exit)

    def write(self, text: str) -> int:
        """Buffer a text; texts are written in the order of the calls."""
        if len(self._waiting) < MAX_WAITING_LINES:
            self._waiting.append(text)
        else:
            self._lost()
        return len(text)

    def flush(self) -> None:
        """Write the buffer: now, or at the end of the loop's iteration."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._write_out()
            return
        if self._loop is not loop:
            self._loop = loop
            loop.call_soon(self._write_later, loop)

    def _write_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = None
        if not self._write_out():
            self._loop = loop
            loop.call_later(_RETRY_SECONDS, self._write_later, loop)

    def _write_at_exit(self) -> None:
        self._write_out(timeout=_FINAL_WAIT)

    def _write_out(self, timeout: float = 0.0) -> bool:
        """Write what there is room for, waiting `timeout` seconds for more; whether it was all."""
        # A full disk or a reader that has gone costs lines, and must not end the server.
        with self._lock, contextlib.suppress(OSError):
            if self._target.closed:
                self._take_lines()
            elif self._pipe is not None:
                return self._write_pipe(self._pipe, timeout)
            elif self._waiting:
                self._target.write(self._take_lines())
                self._target.flush()
        return True

    def _write_pipe(self, pipe: "_NonBlockingPipe", timeout: float) -> bool:
        while self._partial or self._waiting:
            self._partial = self._partial or memoryview(self._encode(self._take_lines()))
            if not pipe.has_room(timeout):
                return False
            try:
                written = os.write(pipe.number, self._partial[:_PIPE_BYTES])
            except BlockingIOError:
                return False
            except OSError:
                self._partial = _NOTHING
                raise
            self._partial = self._partial[written:]
        return True

    def _encode(self, lines: str) -> bytes:
        encoding = self._target.encoding if self._target.isatty() else "utf-8"
        return lines.encode(encoding, "backslashreplace")

    def _take_lines(self) -> str:
        """Remove and return all buffered lines; each exactly once, whoever adds meanwhile."""
        lines: list[str] = []
        with contextlib.suppress(IndexError):
            while True:
                lines.append(self._waiting.popleft())
        return "".join(lines)


class _NonBlockingPipe:
    """A descriptor that may have no room for a while: a pipe, a socket, a terminal."""

    def __init__(self, number: int) -> None:
        self.number: Final = number
        self._poll: Final = select.poll()
        self._poll.register(number, select.POLLOUT)

    @classmethod
    def of(cls, target: TextIO) -> "_NonBlockingPipe | None":
        """The descriptor of a file; None: it is a regular file, or has none."""
        try:
            number = target.fileno()
            is_regular = stat.S_ISREG(os.fstat(number).st_mode)
        except (OSError, ValueError):
            return None
        return None if is_regular else cls(number)

    def has_room(self, timeout: float) -> bool:
        """Whether a piece can be written without waiting, within `timeout` seconds."""
        return bool(self._poll.poll(timeout * 1_000))


def configure_logging(
    level: str = "info", stream: TextIO | None = None, *, log_format: str = "auto"
) -> None:
    """Configure logging on stderr (or `stream`). `level` as in `logging`.

    `log_format` is "json" (an object a line), "text" (a line for people), or "auto": text on a
    terminal. Libraries that use the standard `logging` are let through from WARNING on.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    target = stream or sys.stderr
    as_text = log_format == "text" or (log_format == "auto" and target.isatty())
    lines = cast("TextIO", _log_writer(target))
    logging.basicConfig(
        level=max(number, logging.WARNING),
        stream=lines,
        format=_LIBRARY_TEXT if as_text else _LIBRARY_JSON,
        force=True,
    )
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(number),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _to_text if as_text else structlog.processors.JSONRenderer(serializer=_to_json),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=lines),
        cache_logger_on_first_use=False,
    )


@lru_cache(maxsize=1)
def _log_writer(target: TextIO) -> BufferedLogWriter:
    """The writer of a file: the same one for the same file, with its buffer."""
    return BufferedLogWriter(target, log_lines_lost.inc)


def _to_json(event: dict[str, object], **_: object) -> str:
    return orjson.dumps(event, default=str).decode()


def _to_text(_: object, __: str, event: MutableMapping[str, Any]) -> str:
    """Render a line for people: time, level, event, fields."""
    time = str(event.pop("timestamp", ""))[11:19]
    words = [time, str(event.pop("level", "")).upper(), str(event.pop("event", ""))]
    trace = event.pop("exception", None)
    words += [f"{name}={_value(value)}" for name, value in event.items()]
    return " ".join(words) + (f"\n{trace}" if trace else "")


def _value(value: object) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
