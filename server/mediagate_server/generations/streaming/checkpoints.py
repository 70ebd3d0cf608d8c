"""Checkpoints of a text that is being streamed, so that a later process can go on from there.

Off the hot path: no token waits for a disk. A piece is written within a second or 4 KiB, and all of
it when this process is asked to end. What was not written yet is upstream's to repeat.
"""

import asyncio
from typing import Final

from mediagate_server.generations.streaming.text_buffer import TextBuffer
from mediagate_server.runtime import failpoints
from mediagate_server.runtime.clock import Clock, Timer
from mediagate_server.store.generations import GenerationStore
from mediagate_server.store.records import Checkpoint

_SECONDS: Final = 1.0
_BYTES: Final = 4_096

STREAMING_METHODS: Final = frozenset({"StreamText", "StreamModel"})
"""The methods whose callers come back for the middle of a text."""


class Checkpoints:
    """The pieces of one generation's text. `event_id` is upstream's id of the last one."""

    def __init__(
        self, store: GenerationStore, clock: Clock, generation_id: str, text: TextBuffer
    ) -> None:
        self._store = store
        self._clock = clock
        self._id = generation_id
        self._text = text
        self._written = 0
        self._timer: Timer | None = None
        self.event_id = ""

    @property
    def has_unnumbered_text(self) -> bool:
        """True where there is text that no event id stands for: a repeat could not be told."""
        return bool(self._text.sequence) and not self.event_id

    def restore(self, pieces: tuple[Checkpoint, ...]) -> None:
        """Restore the checkpoints of an earlier process."""
        for piece in pieces:
            self._text.append(piece.piece)
            self.event_id = piece.event_id
        self._written = self._text.sequence

    def on_text(self, event_id: str) -> None:
        """The text has grown, up to this event."""
        self.event_id = event_id
        if self._text.sequence - self._written >= _BYTES:
            self.flush()
        elif self._timer is None:
            # At the same moments for all texts, so that their pieces share a commit.
            passed = self._clock.now().timestamp() % _SECONDS
            self._timer = self._clock.call_later(_SECONDS - passed, self.flush)

    def flush(self) -> None:
        """Write what is not written yet, without waiting for it."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        start, end = self._written, self._text.sequence
        if start >= end:
            return
        self._written = end
        failpoints.hit("before_checkpoint")
        piece = Checkpoint(start, end, self.event_id, self._text.since(start))
        kept = self._store.save_checkpoint(self._id, piece)
        kept.add_done_callback(lambda done: self._was_written(done, start))

    def close(self) -> None:
        """The text is at its end: the record has it."""
        self._written = self._text.sequence
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _was_written(self, done: "asyncio.Future[None]", start: int) -> None:
        if done.cancelled() or done.exception() is not None:
            self._written = min(self._written, start)  # The next piece begins there.
        else:
            failpoints.hit("after_checkpoint")
