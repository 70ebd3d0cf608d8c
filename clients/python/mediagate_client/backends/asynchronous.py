"""gRPC, sleep and threads for the asyncio client. The same names as in blocking.py."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, ParamSpec, TypeVar, cast

import grpc.aio
from google.protobuf.message import Message

from mediagate.v1.medium_pb2 import Media
from mediagate_client import download as downloads
from mediagate_client.channel import Metadata

P = ParamSpec("P")
T = TypeVar("T")
Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

INTERRUPTED: Final = asyncio.CancelledError
"""Raised in a caller that is interrupted while it waits for a message."""

sleep = asyncio.sleep


async def call_unary(
    method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
    request: Request,
    seconds: float | None,
    metadata: Metadata,
) -> Response:
    """Call an rpc once. Cancelling the task cancels the rpc: gRPC does that by itself."""
    return await method(request, timeout=seconds, metadata=metadata)


async def call_upload(
    method: grpc.aio.StreamUnaryMultiCallable[Request, Response],
    messages: Iterator[Request],
    seconds: float | None,
    metadata: Metadata,
) -> Response:
    """Call an rpc that takes a stream; each message is made in a thread."""
    return await method(_iterate_in_threads(messages), timeout=seconds, metadata=metadata)


async def next_message(call: grpc.aio.UnaryStreamCall[Request, Response]) -> Response | None:
    """Return the next message of a stream; None at its end."""
    message = await call.read()
    return None if message is grpc.aio.EOF else cast("Response", message)


async def run_blocking(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking work in a thread."""
    return await asyncio.to_thread(work, *args, **kwargs)


async def with_time_limit(
    seconds: float,  # noqa: ARG001 - as in blocking.py
    work: Callable[P, Awaitable[None]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> bool:
    """Wait for `work`, which is bounded by the deadline of its own rpc; return True."""
    await work(*args, **kwargs)
    return True


async def download(media: Media | str, path: str | Path, max_bytes: int) -> Path:
    """Download from a link in a thread, which stops at its next chunk if the task is cancelled."""
    stop = threading.Event()
    try:
        return await asyncio.to_thread(
            downloads.download, media, path, max_bytes=max_bytes, stopped=stop.is_set
        )
    finally:
        stop.set()


async def close_channels(channels: Iterable[grpc.aio.Channel]) -> None:
    """Close channels, and with them every call that still runs."""
    for channel in channels:
        await channel.close()


def was_interrupted(*, closed: bool) -> bool:
    """Return whether this task was cancelled, rather than its stream closed by another task.

    gRPC raises CancelledError then too.
    """
    task = asyncio.current_task()
    return not (closed and task is not None and not task.cancelling())


async def _iterate_in_threads(messages: Iterator[Request]) -> AsyncIterator[Request]:
    while (message := await asyncio.to_thread(next, messages, None)) is not None:
        yield message
