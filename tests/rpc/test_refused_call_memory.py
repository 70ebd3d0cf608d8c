"""A call that was refused leaves nothing for the collector of cycles, least of all its request.

That collector seldom runs: megabytes of each refused request would wait for it.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

import grpc
import pytest

from mediagate.v1 import generations_pb2, media_pb2
from mediagate_server.api.interceptors.rpc_call import RpcCall
from mediagate_server.errors import MediagateError
from tests.builders import run_model_request, stream_text_request, text_request

from .stubs import Stubs

LONG = "x" * 2_000_000
KINDS = (FrameType, TracebackType, RpcCall, MediagateError, grpc.aio.AbortError, bytes)
REFUSED: dict[str, Callable[[Stubs], Awaitable[Any]]] = {
    "by the rules": lambda stubs: stubs.text.GenerateText(text_request(prompt=LONG)),
    "by a handler": lambda stubs: stubs.generations.GetGeneration(
        generations_pb2.GetGenerationRequest(id="gen_0123456789abcdef0123456789abcdef")
    ),
    "by the plan": lambda stubs: stubs.models.RunModel(run_model_request("a/b")),
    "a stream": lambda stubs: drained(stubs.text.StreamText(stream_text_request(prompt=LONG))),
    "an upload": lambda stubs: stubs.media.UploadMedia(
        iter([media_pb2.UploadMediaRequest(chunk=b"x")])
    ),
    "no such message": lambda stubs: raw(stubs.channel)(b"\xff" * 1_000),
}


def raw(channel: grpc.aio.Channel) -> Any:
    """A call that is sent as bytes."""
    return channel.unary_unary("/mediagate.v1.TextService/GenerateText")


async def drained(stream: Any) -> None:
    """All of it."""
    async for _ in stream:
        pass


@contextmanager
def garbage() -> Iterator[Counter[str]]:
    """What only the collector would have found, by the names of its types; counted at the end."""
    counts: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    try:
        yield counts
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        counts.update(type(item).__name__ for item in gc.garbage if isinstance(item, KINDS))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("why", REFUSED)
async def test_a_refused_call_frees_its_memory(sandbox_stubs: Stubs, why: str) -> None:
    """By whomever: the request, its frames and its error are freed at once."""

    async def refused() -> None:
        try:
            await REFUSED[why](sandbox_stubs)
        except grpc.aio.AioRpcError as error:
            error.__traceback__ = None  # The client's own.
        else:
            pytest.fail("it was not refused")

    await refused()  # What is made once is made.
    with garbage() as counts:
        for _ in range(5):
            await refused()
    assert not counts
