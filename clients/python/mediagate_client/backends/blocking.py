"""gRPC, sleep and time limits for the blocking client. The same names as in asynchronous.py."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import grpc
from google.protobuf.message import Message

from mediagate.v1.medium_pb2 import Media
from mediagate_client import download as downloads
from mediagate_client.channel import Metadata
from mediagate_client.connections import CLOSED, Loop
from mediagate_client.errors import ClientNotUsable
from mediagate_client.timeouts import run_with_timeout

P = ParamSpec("P")
T = TypeVar("T")
Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

INTERRUPTED: Final = KeyboardInterrupt
"""Raised in a caller that is interrupted while it waits for a message."""
_CLOSE_SECONDS: Final = 5.0

sleep = time.sleep


def call_unary(
    method: grpc.UnaryUnaryMultiCallable[Request, Response],
    request: Request,
    seconds: float | None,
    metadata: Metadata,
) -> Response:
    """Call an rpc once. Ctrl-C cancels it."""
    try:
        call = method.future(request, timeout=seconds, metadata=metadata)
    except ValueError:
        raise ClientNotUsable(CLOSED) from None
    return _result(call)


def call_upload(
    method: grpc.StreamUnaryMultiCallable[Request, Response],
    messages: Iterator[Request],
    seconds: float | None,
    metadata: Metadata,
) -> Response:
    """Call an rpc that takes a stream. Ctrl-C cancels it."""
    try:
        call = method.future(messages, timeout=seconds, metadata=metadata)
    except ValueError:
        raise ClientNotUsable(CLOSED) from None
    return _result(call)


def open_stream(
    method: grpc.UnaryStreamMultiCallable[Request, Response],
    request: Request,
    seconds: float | None,
    metadata: Metadata,
) -> grpc._CallIterator[Response]:
    """Call an rpc that answers with a stream. Raises ClientNotUsable on a closed channel."""
    try:
        return method(request, timeout=seconds, metadata=metadata)
    except ValueError:
        raise ClientNotUsable(CLOSED) from None


def next_message(call: grpc._CallIterator[Response]) -> Response | None:
    """Return the next message of a stream; None at its end."""
    return next(call, None)


def run_blocking(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking work in this thread."""
    return work(*args, **kwargs)


def with_time_limit(
    seconds: float, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs
) -> bool:
    """Return whether `work` was done within that many seconds; it may hang (timeouts.py)."""
    return run_with_timeout(seconds, lambda: work(*args, **kwargs))


def download(media: Media | str, path: str | Path, max_bytes: int) -> Path:
    """Download from a link."""
    return downloads.download(media, path, max_bytes=max_bytes)


def current_loop() -> Loop:
    """Return None: there is no event loop."""
    loop: Loop = None
    return loop


def run_in_background(loop: Loop, work: Callable[[], None]) -> None:  # noqa: ARG001 - as in asynchronous.py
    """Run `work` in a thread, without waiting. Called by the garbage collector.

    That may run in the middle of gRPC's own work, whose locks `work` needs.
    """
    threading.Thread(target=work, daemon=True).start()


def close_channels(loop: Loop, channels: Iterable[grpc.Channel]) -> None:  # noqa: ARG001 - as in asynchronous.py
    """Close channels, and with them every call that still runs; give up after 5 s."""

    def close() -> None:
        for channel in channels:
            channel.close()

    run_with_timeout(_CLOSE_SECONDS, close)


def _result(call: grpc.Future[Response]) -> Response:
    try:
        return call.result()
    except grpc.RpcError:
        raise
    except BaseException:
        # Ctrl-C: without this the rpc would go on, and the server would take us for present.
        call.cancel()
        raise
