"""Connections of a client: its stubs, for each process and event loop.

A gRPC channel belongs to the event loop and the process in which it was made. These are made at
the first call there: so a client can be made when a module is imported, and used in several event
loops and in processes that are forked later.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Generic, TypeVar

from mediagate_client.errors import ClientNotUsable

Loop = asyncio.AbstractEventLoop | None
"""None: the blocking client, which has none."""
Stubs = TypeVar("Stubs")

CLOSED = "the client is closed"


class Connections(Generic[Stubs]):
    """Stubs of one client, opened where they are needed."""

    def __init__(self, open_stubs: Callable[[], Stubs]) -> None:
        """Open nothing yet."""
        self._open = open_stubs
        self._entries: dict[tuple[int, int], tuple[Loop, Stubs]] = {}
        self._closed = False

    def get(self, loop: Loop) -> Stubs:
        """Return the stubs of this process and event loop. Raises ClientNotUsable once closed."""
        if self._closed:
            raise ClientNotUsable(CLOSED)
        key = (os.getpid(), id(loop))
        entry = self._entries.get(key)
        if entry is None:
            self._forget_closed_loops()
            # Two threads may open at once; the second one's channels never connect.
            entry = self._entries.setdefault(key, (loop, self._open()))
        return entry[1]

    def close(self) -> list[tuple[Loop, Stubs]]:
        """Refuse calls from now on; return what is to be closed, by its event loop.

        What belongs to the process that this one was forked from stays as it is.
        """
        self._closed = True
        entries = [entry for (pid, _), entry in self._entries.items() if pid == os.getpid()]
        self._entries.clear()
        return entries

    def _forget_closed_loops(self) -> None:
        for key, (loop, _) in list(self._entries.items()):
            if loop is not None and loop.is_closed():
                self._entries.pop(key, None)
