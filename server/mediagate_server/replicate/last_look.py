"""The last look before a request's first byte, whether it may still be sent.

Between the decision to send and the first byte lies the wait for a connection. A process can stand
still in it for as long as its machine likes, and what was right before may be wrong after: another
process may have taken over and declared that the request was never sent.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import aiohttp

_may_send: ContextVar[Callable[[], bool] | None] = ContextVar("may_send", default=None)


class NotSent(aiohttp.ClientError):
    """The last look said no: not a byte of the body was sent."""


class LookingRequest(aiohttp.ClientRequest):
    """A request that asks before its first byte. The library's way to have a say there."""

    async def write_bytes(self, writer: Any, conn: Any, content_length: int | None = None) -> None:
        """Headers wait in `writer` until now and go with the body."""
        may_send = _may_send.get()
        if may_send is not None and not may_send():
            conn.protocol.set_exception(NotSent())
            return
        await super().write_bytes(writer, conn, content_length)


@contextmanager
def last_look(may_send: Callable[[], bool] | None) -> Iterator[None]:
    """Within, requests with a body ask `may_send` right before they are written."""
    token = _may_send.set(may_send)
    try:
        yield
    finally:
        _may_send.reset(token)
