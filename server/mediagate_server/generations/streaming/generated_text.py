"""Text of one generation: what callers are sent of it, and what is written for a later process."""

from mediagate_server.generations.streaming.checkpoints import Checkpoints
from mediagate_server.generations.streaming.text_buffer import TextBuffer
from mediagate_server.runtime.clock import Clock
from mediagate_server.runtime.notifier import Notifier
from mediagate_server.store.generations import GenerationStore


class GeneratedText:
    """`is_broken`: what callers were sent cannot be continued. `is_polled`: too many streams are
    open, so that nothing may come before the end. `has_unsent_text`: they were sent a beginning of
    the archived document at the most, and are to read on there.
    """

    __slots__ = ("_changed", "buffer", "checkpoints", "has_unsent_text", "is_broken", "is_polled")

    def __init__(
        self, store: GenerationStore, clock: Clock, generation_id: str, changed: Notifier
    ) -> None:
        self.buffer = TextBuffer()
        self.checkpoints = Checkpoints(store, clock, generation_id, self.buffer)
        self.is_broken = self.is_polled = self.has_unsent_text = False
        self._changed = changed

    @property
    def sequence(self) -> int:
        """Bytes so far."""
        return self.buffer.sequence

    def set_polled(self, *, polled: bool) -> None:
        """Whether too many streams are open for this one: callers are told of either."""
        if self.is_polled is not polled:
            self.is_polled = polled
            self._changed.notify()

    def end(self, unsent_text: str, *, broken: bool) -> None:
        """The text is at its end: the record has it."""
        self.buffer.append(unsent_text)
        self.checkpoints.close()
        self.is_broken = broken
