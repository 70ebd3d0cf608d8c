"""Connection faults: close, reset, truncated responses."""

from __future__ import annotations

import os
import socket
import struct

from aiohttp import web

_NO_LINGER = struct.pack("ii", 1, 0)


def close(request: web.Request) -> web.Response:
    """Close the connection without a response. The one returned is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def reset(request: web.Request) -> web.Response:
    """Reset the connection (RST)."""
    transport = request.transport
    if transport is None:
        return web.Response()
    number = transport.get_extra_info("socket").fileno()
    if number >= 0:
        # On a duplicate, because event loops hand out sockets that allow no options.
        with socket.socket(fileno=os.dup(number)) as duplicate:
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    return close(request)


async def send_partially(
    request: web.Request, response: web.Response, after_bytes: int
) -> web.StreamResponse:
    """Send the head and the first `after_bytes` of the body, then reset the connection."""
    body = bytes(response.body or b"") if isinstance(response.body, bytes | bytearray) else b""
    partial = web.StreamResponse(status=response.status, headers=response.headers)
    partial.content_length = len(body)
    await partial.prepare(request)
    if request.transport is not None:
        # What still waits in the process when the connection is reset would not be sent.
        request.transport.set_write_buffer_limits(0)
    await partial.write(body[:after_bytes])
    reset(request)
    return partial
