"""Bodies that are handed on while they are read, by the connection itself.

aiohttp lets a task wait for each piece of a body. Waking it costs more than the piece of a stream
that is one token: a fifth of all that the gate does for it (docs/decisions/0010). So connections
for streams say when something has come, and whoever listens takes it out of the reader at once.

aiohttp names no way to have connections of one's own, so one private attribute is set here; a test
holds it. What is overridden is public, and the protocol stays the library's.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler


class PushingHandler(ResponseHandler):
    """One connection. `on_read` is called whenever bytes of a body, or its end, may be there."""

    def __init__(self, loop: Any) -> None:
        super().__init__(loop)
        self.on_read: Callable[[], None] | None = None
        self.is_held = False
        """Whether upstream is to wait, because more has come than the reader is to hold."""

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        super().data_received(data)
        # Without data it was asked for by the reader, out of which something is just being taken.
        if data and self.on_read is not None:
            self.on_read()

    def connection_lost(self, exc: BaseException | None) -> None:
        """See asyncio.Protocol."""
        super().connection_lost(exc)
        if self.on_read is not None:
            self.on_read()

    def pause_reading(self) -> None:
        """Asked for by the reader."""
        self.is_held = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's
        """Asked for whenever something is taken out, held or not: where not, there is nothing."""
        if self.is_held:
            self.is_held = False
            super().resume_reading(resume_parser)


class PushingConnector(aiohttp.TCPConnector):
    """Opens such connections."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # A partial of the library's own class, by its annotation.
        self._factory = partial(PushingHandler, loop=self._loop)  # type: ignore[assignment]
