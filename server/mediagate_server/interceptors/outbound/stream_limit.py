"""Limit of the streams that are open to upstream at once.

Counted here, before anything is sent: left to the pool of connections, the opening would wait for
a free one and then look like an upstream that cannot be reached, which stops the model for all.
"""

from mediagate_server import telemetry
from mediagate_server.replicate.port import StreamLimitReached


class StreamLimit:
    """So many places; each is taken and given back once."""

    __slots__ = ("_most", "open")

    def __init__(self, most: int) -> None:
        self._most = most
        self.open = 0

    def take(self) -> None:
        """One more is open. Raises StreamLimitReached."""
        if self.open >= self._most:
            telemetry.streams_not_opened.inc()
            raise StreamLimitReached
        self.open += 1
        telemetry.streams_open.set(self.open)

    def give_back(self) -> None:
        """One is closed."""
        self.open -= 1
        telemetry.streams_open.set(self.open)
