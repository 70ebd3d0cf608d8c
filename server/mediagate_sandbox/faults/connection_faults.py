"""What can be done to a connection: drop it, break it off in the middle of an answer."""

from __future__ import annotations

import os
import socket
import struct

from aiohttp import web

_NO_LINGER = struct.pack("ii", 1, 0)


def close(request: web.Request) -> web.Response:
    """Close the connection without another byte. The answer returned is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def reset(request: web.Request) -> web.Response:
    """Reset the connection (RST), as a host does that has no such connection."""
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
    """Send an answer's head and the first `after_bytes` of its body, then reset."""
    body = bytes(response.body or b"") if isinstance(response.body, bytes | bytearray) else b""
    part = web.StreamResponse(status=response.status, headers=response.headers)
    part.content_length = len(body)
    await part.prepare(request)
    if request.transport is not None:
        # What still waits in the process when the connection is reset would not be sent.
        request.transport.set_write_buffer_limits(0)
    await part.write(body[:after_bytes])
    reset(request)
    return part
