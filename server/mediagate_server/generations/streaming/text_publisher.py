"""Publisher of a growing text to one caller, piece by piece, without a task that wakes for each.

The growth of the text itself begins to write what is new, the end of a write begins the next.
"""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from mediagate_server.generations.streaming.text_buffer import TextBuffer, TextChunk
from mediagate_server.runtime.tasks import run_eagerly

WriteText = Callable[[TextChunk], Coroutine[Any, Any, None]]
"""Writes one piece; one that the caller is slow to read takes as long as that."""


class TextPublisher:
    """Within it as a context manager, the text after byte `after` is written, in order, once.

    There is one write at a time: what grows meanwhile goes with the next. `wake` is called when
    writing has failed; `flush` then raises why.
    """

    __slots__ = ("_failure", "_reader", "_rest", "_text", "_wake", "_write", "_writing")

    def __init__(
        self, text: TextBuffer, after: int, write: WriteText, wake: Callable[[], None]
    ) -> None:
        self._text = text
        self._reader = text.reader(after)
        self._write = write
        self._wake = wake
        self._writing = False
        self._rest: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._text.listeners.append(self._go_on)
        self._go_on()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Begin no other write. One that is under way ends by itself, or with the call."""
        self._text.listeners.remove(self._go_on)
        self._write = _nothing_more

    @property
    def has_failed(self) -> bool:
        """Whether nothing more can be written."""
        return self._failure is not None

    async def flush(self) -> None:
        """Until all that there is has been written. Raises what writing failed with."""
        while self._writing:
            self._rest = asyncio.get_running_loop().create_future()
            await self._rest
        if self._failure is not None:
            raise self._failure

    def check_reached(self) -> None:
        """At the end of the text: StreamExpired where `after` was never reached."""
        self._reader.check_reached()

    def _go_on(self) -> None:
        """Write what is new, unless a write is under way: its end looks again."""
        if self._writing or self._failure is not None:
            return
        try:
            chunk = self._reader.read()
            writing = None if chunk is None else self._write(chunk)
        except Exception as failure:  # noqa: BLE001 - this caller's trouble, not the text's
            self._failed(failure)
            return
        if writing is not None:
            self._writing = True
            run_eagerly(writing, self._written)

    def _written(self, failure: BaseException | None) -> None:
        self._writing = False
        if failure is None:
            self._go_on()
        else:
            self._failed(failure)
        if self._rest is not None and not self._writing and not self._rest.done():
            self._rest.set_result(None)

    def _failed(self, failure: BaseException) -> None:
        self._failure = failure
        self._wake()


async def _nothing_more(_: TextChunk) -> None:
    """Write nothing any more."""
