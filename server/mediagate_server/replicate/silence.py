"""Streams from which nothing comes any more: found by one look at all of them, now and then.

A timer for each would be set anew with each read, which is with each token, or cost half a KiB for
each stream; a stream that is silent a little longer than it may is none the worse for it.
"""

import asyncio
from typing import Final, Protocol

_LOOKS: Final = 10
"""How often to look within the time that a stream may be silent."""


class Listening(Protocol):
    """A stream that is read. `last` is when something came, by the event loop's time."""

    last: float

    def silent(self) -> None:
        """Nothing has come for too long. It is looked at no more."""
        ...


class Silence:
    """Watches those that are listened to. `longest` in seconds: how long each may be silent."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._streams: set[Listening] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, stream: Listening) -> None:
        """It is listened to from now on."""
        self._streams.add(stream)
        if self._timer is None:
            self._look_later()

    def forget(self, stream: Listening) -> None:
        """It is not listened to any more; nothing where it was not."""
        self._streams.discard(stream)
        if not self._streams and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._longest / _LOOKS, self._look)

    def _look(self) -> None:
        self._look_later()
        latest = asyncio.get_running_loop().time() - self._longest
        for stream in [each for each in self._streams if each.last <= latest]:
            self.forget(stream)
            stream.silent()
