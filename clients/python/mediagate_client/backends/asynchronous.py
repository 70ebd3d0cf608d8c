"""gRPC, sleep and threads for the asyncio client. The same names as in blocking.py."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Final, ParamSpec, TypeVar, cast

import grpc.aio
from google.protobuf.message import Message

from mediagate.v1.medium_pb2 import Media
from mediagate_client import download as downloads
from mediagate_client.channel import Metadata
from mediagate_client.connections import CLOSED, Loop
from mediagate_client.errors import ClientNotUsable

P = ParamSpec("P")
T = TypeVar("T")
Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

INTERRUPTED: Final = asyncio.CancelledError
"""Raised in a caller that is interrupted while it waits for a message."""

sleep = asyncio.sleep
_background_tasks: Final[set[asyncio.Future[None]]] = set()


async def call_unary(
    method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
    request: Request,
    seconds: float | None,
    metadata: Metadata,
) -> Response:
    """Call an rpc once. Cancelling the task cancels the rpc: gRPC does that by itself."""
    try:
        return await method(request, timeout=seconds, metadata=metadata)
    except (asyncio.CancelledError, grpc.aio.UsageError, RuntimeError):
        _raise_if_closed()
        raise


async def call_upload(
    method: grpc.aio.StreamUnaryMultiCallable[Request, Response],
    messages: Iterator[Request],
    seconds: float | None,
    metadata: Metadata,
) -> Response:
    """Call an rpc that takes a stream; each message is made in a thread."""
    try:
        return await method(_iterate_in_threads(messages), timeout=seconds, metadata=metadata)
    except (asyncio.CancelledError, grpc.aio.UsageError, RuntimeError):
        _raise_if_closed()
        raise


def open_stream(
    method: grpc.aio.UnaryStreamMultiCallable[Request, Response],
    request: Request,
    seconds: float | None,
    metadata: Metadata,
) -> grpc.aio.UnaryStreamCall[Request, Response]:
    """Call an rpc that answers with a stream. Raises ClientNotUsable on a closed channel."""
    try:
        return method(request, timeout=seconds, metadata=metadata)
    except (grpc.aio.UsageError, RuntimeError):
        raise ClientNotUsable(CLOSED) from None


async def next_message(call: grpc.aio.UnaryStreamCall[Request, Response]) -> Response | None:
    """Return the next message of a stream; None at its end."""
    try:
        message = await call.read()
    except (asyncio.CancelledError, grpc.aio.UsageError):
        _raise_if_closed()
        raise
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


def current_loop() -> asyncio.AbstractEventLoop:
    """Return the running event loop. Raises ClientNotUsable where none runs."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        message = "no event loop of asyncio runs here: await the call in one, or use Client"
        raise ClientNotUsable(message) from None


def run_in_background(loop: Loop, work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run `work` in a task of the loop, without waiting. Called by the garbage collector.

    Where the loop has ended nothing can be sent any more: the server cancels what is left alone
    after its disconnect grace.
    """
    if loop is None or loop.is_closed():
        return

    def start() -> None:
        task = asyncio.ensure_future(work())
        _background_tasks.add(task)
        task.add_done_callback(_background_tasks.discard)

    # It may be another thread's, and be closed by that one in this moment.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(start)


async def close_channels(loop: Loop, channels: Iterable[grpc.aio.Channel]) -> None:
    """Close channels, and with them every call that still runs, in the loop that they belong to."""
    for channel in channels:
        if loop is None or loop is asyncio.get_running_loop():
            await channel.close()
        elif loop.is_running():
            asyncio.run_coroutine_threadsafe(channel.close(), loop)


def _raise_if_closed() -> None:
    """Raise ClientNotUsable in place of what gRPC raises where a channel was closed.

    That is CancelledError, as if this task were cancelled.
    """
    task = asyncio.current_task()
    if task is not None and not task.cancelling():
        raise ClientNotUsable(CLOSED) from None


async def _iterate_in_threads(messages: Iterator[Request]) -> AsyncIterator[Request]:
    while (message := await asyncio.to_thread(next, messages, None)) is not None:
        yield message
