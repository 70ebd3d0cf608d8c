"""Log lines on their way to a file: one write for all lines of one turn of the event loop.

Every write lets go of the interpreter's lock, and under load another thread takes it before the
loop goes on: a write for each line would cost more than making the line.
"""

import asyncio
import atexit
import contextlib
from collections import deque
from typing import Final, TextIO


class LogLines:
    """Takes lines as a file does. Outside an event loop they are written at once.

    In one they are written when its current turn is over, so that a process which is killed loses
    the lines of one turn at most.
    """

    def __init__(self, target: TextIO) -> None:
        self._target: Final = target
        self._waiting: deque[str] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        atexit.register(self._write_out)

    def write(self, text: str) -> int:
        """Take a text; it is written whole, in the order of the calls."""
        self._waiting.append(text)
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
            loop.call_soon(self._write_out)

    def _write_out(self) -> None:
        self._loop = None
        lines: list[str] = []
        # Other threads may add and take meanwhile: one at a time, each line exactly once.
        with contextlib.suppress(IndexError):
            while True:
                lines.append(self._waiting.popleft())
        if lines and not self._target.closed:
            # A full disk or a reader that has gone takes the lines, and must not take the gate.
            with contextlib.suppress(OSError):
                self._target.write("".join(lines))
                self._target.flush()
