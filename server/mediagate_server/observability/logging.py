"""Log lines on their way to a file: one write for all lines of one turn of the event loop.

Every write lets go of the interpreter's lock, and under load another thread takes it before the
loop goes on: a write for each line would cost more than making the line.

Whoever reads the other end of a pipe may stop reading (a log collector that stalls, a terminal
that is held): a write that waited for it would stop the gate. So a pipe is written to only where
it has room, and what it has no room for waits here, up to a limit.
"""

import asyncio
import atexit
import contextlib
import logging
import os
import select
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Final, TextIO, cast

import orjson
import structlog

from mediagate_server.observability.metrics import log_lines_lost

MAX_WAITING_LINES: Final = 10_000
"""Lines that wait for a reader who has stopped; more are lost, the newest."""
_PIECE: Final = select.PIPE_BUF
"""Bytes that fit for certain where poll() says that there is room; see pipe(7)."""
_AGAIN: Final = 0.02
"""Seconds until a reader who has stopped is looked at again, though nothing more is said."""
_LAST_WAIT: Final = 1.0
"""Seconds that the end of the process may wait for a reader."""
_NOTHING: Final = memoryview(b"")


class BufferedLogWriter:
    """Takes lines as a file does. Outside an event loop they are written at once.

    In one they are written when its current turn is over, so that a process which is killed loses
    the lines of one turn at most. `lost` is called for every line that is lost because too many
    wait for a reader.
    """

    def __init__(self, target: TextIO, lost: Callable[[], object] = lambda: None) -> None:
        self._target: Final = target
        self._lost: Final = lost
        self._pipe: Final = _NonBlockingPipe.of(target)
        self._waiting: deque[str] = deque()
        self._begun = _NOTHING
        """What is left of lines that a pipe has taken in part, or not yet."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn: Final = threading.Lock()
        atexit.register(self._write_last)

    def write(self, text: str) -> int:
        """Take a text; it is written whole, in the order of the calls."""
        if len(self._waiting) < MAX_WAITING_LINES:
            self._waiting.append(text)
        else:
            self._lost()
        return len(text)

    def flush(self) -> None:
        """Have what was taken written: now, or at the end of the loop's turn."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._write_out()
            return
        if self._loop is not loop:
            self._loop = loop
            loop.call_soon(self._write_in_turn, loop)

    def _write_in_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = None
        if not self._write_out():
            self._loop = loop
            loop.call_later(_AGAIN, self._write_in_turn, loop)

    def _write_last(self) -> None:
        self._write_out(patience=_LAST_WAIT)

    def _write_out(self, patience: float = 0.0) -> bool:
        """Write what there is room for, waiting `patience` seconds for more; whether it was all."""
        # A full disk or a reader that has gone takes the lines, and must not take the gate.
        with self._turn, contextlib.suppress(OSError):
            if self._target.closed:
                self._taken()
            elif self._pipe is not None:
                return self._pipe_out(self._pipe, patience)
            elif self._waiting:
                self._target.write(self._taken())
                self._target.flush()
        return True

    def _pipe_out(self, pipe: "_NonBlockingPipe", patience: float) -> bool:
        while self._begun or self._waiting:
            self._begun = self._begun or memoryview(self._taken().encode())
            if not pipe.has_room(patience):
                return False
            try:
                written = os.write(pipe.number, self._begun[:_PIECE])
            except BlockingIOError:
                return False
            except OSError:
                self._begun = _NOTHING
                raise
            self._begun = self._begun[written:]
        return True

    def _taken(self) -> str:
        """All lines that wait; each is given exactly once, whoever adds meanwhile."""
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
        """That behind a file; None: it is an ordinary one, or none of the system's."""
        try:
            number = target.fileno()
            is_ordinary = stat.S_ISREG(os.fstat(number).st_mode)
        except (OSError, ValueError):
            return None
        return None if is_ordinary else cls(number)

    def has_room(self, patience: float) -> bool:
        """Whether a piece can be written without waiting, within `patience` seconds."""
        return bool(self._poll.poll(patience * 1_000))


def configure_logging(level: str = "info", stream: TextIO | None = None) -> None:
    """One JSON object a line on stderr (or `stream`). `level` is a name of `logging`'s.

    Libraries that use the standard `logging` are let through from WARNING on.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    lines = cast("TextIO", _lines_to(stream or sys.stderr))
    logging.basicConfig(
        level=max(number, logging.WARNING),
        stream=lines,
        format='{"level":"%(levelname)s","logger":"%(name)s","event":"%(message)s"}',
        force=True,
    )
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(number),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_to_json),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=lines),
        cache_logger_on_first_use=False,
    )


@lru_cache(maxsize=1)
def _lines_to(target: TextIO) -> BufferedLogWriter:
    """The same for the same: what waits there for its reader keeps its place."""
    return BufferedLogWriter(target, log_lines_lost.inc)


def _to_json(event: dict[str, object], **_: object) -> str:
    return orjson.dumps(event, default=str).decode()
