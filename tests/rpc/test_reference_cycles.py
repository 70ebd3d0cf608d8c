"""Nothing of a generation that is over is left to the collector of cycles.

What refers back to itself is freed late, all at once, and the search for it stops everybody.
"""

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import Callable, Iterator
from types import CoroutineType, FrameType, FunctionType, MethodType, TracebackType
from typing import Any
from uuid import uuid4

import grpc
import pytest

from mediagate.v1 import generations_pb2, text_pb2
from mediagate_sandbox.server import Sandbox
from mediagate_server.observability import metrics
from tests.builders import image_request, stream_text_request, text_request
from tests.grpc_errors import rpc_error

from .generation_waits import inject_faults
from .stubs import OpenServer, Stubs
from .test_budget_release import (
    Way,
    aborted,
    blocked,
    cancelled,
    fallen_back,
    left,
    of_several_some_fail,
    refused,
)

_PACKAGES = frozenset({"mediagate", "mediagate_server"})


def _is_ours(item: object) -> bool:
    if isinstance(item, MethodType):
        item = item.__func__
    if isinstance(item, FunctionType):
        return str(item.__module__).partition(".")[0] in _PACKAGES
    if isinstance(item, TracebackType):
        item = item.tb_frame
    if isinstance(item, FrameType):
        return "mediagate_server" in item.f_code.co_filename
    if isinstance(item, CoroutineType):
        # One that is over holds nothing: asyncio's own timeout may keep it with its task.
        return item.cr_frame is not None and "mediagate_server" in item.cr_code.co_filename
    return type(item).__module__.partition(".")[0] in _PACKAGES


def _name(item: object) -> str:
    if isinstance(item, TracebackType):
        item = item.tb_frame
    if isinstance(item, FrameType):
        return f"{item.f_code.co_qualname}:{item.f_lineno}"
    return f"{type(item).__qualname__} {getattr(item, '__qualname__', '')}"


@contextlib.contextmanager
def left_to_the_collector() -> Iterator[Callable[[], Counter[str]]]:
    """Counts, by kind, what of ours only the collector could free since the beginning."""

    def count_cycles() -> Counter[str]:
        gc.collect()
        return Counter(_name(item) for item in gc.garbage if _is_ours(item))

    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield count_cycles
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def at_rest() -> None:
    """Polls the gauge until no generation is in flight."""
    gauge = metrics.generations_in_flight
    while any(  # noqa: ASYNC110 - nothing tells a test of it
        sample.value for metric in gauge.collect() for sample in metric.samples
    ):
        await asyncio.sleep(0.01)


async def succeeded(stubs: Stubs, _: Sandbox) -> str:
    """A unary text."""
    response = await stubs.text.GenerateText(text_request(prompt="x"))
    return response.generation.id


async def streamed(stubs: Stubs, _: Sandbox) -> str:
    """The same as a stream."""
    events = [event async for event in stubs.text.StreamText(stream_text_request(prompt="x"))]
    return events[0].started.generation_id


async def several(stubs: Stubs, _: Sandbox) -> str:
    """Images of more than one run."""
    response = await stubs.image.GenerateImage(image_request(prompt="x", count=3))
    return response.generation.id


async def replayed(stubs: Stubs, _: Sandbox) -> str:
    """The same request again, while the first runs and after its end."""
    request = stream_text_request(prompt="[[tokens=5 interval_ms=5]] x", request_id=str(uuid4()))

    async def read() -> Any:
        events = [event async for event in stubs.text.StreamText(request)]
        return events[0]

    first, second = await asyncio.gather(read(), read())
    third = await read()
    assert first.started.generation_id == second.started.generation_id
    assert third.started.generation_id == first.started.generation_id
    return str(first.started.generation_id)


async def failed(stubs: Stubs, sandbox: Sandbox) -> str:
    """In the midst of a stream."""
    call = stubs.text.StreamText(stream_text_request(prompt="[[fail_after=2]] x"))
    name = ""
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for event in call:
            name = name or event.started.generation_id
    assert await call.code() is not grpc.StatusCode.OK
    return name


async def never_bound(stubs: Stubs, _: Sandbox) -> str:
    """Calls that are refused before anything is made."""
    for call in (
        stubs.text.GenerateText(text_pb2.GenerateTextRequest()),
        stubs.generations.GetGeneration(generations_pb2.GetGenerationRequest(id="gen_01K")),
        stubs.text.GenerateText(text_request(prompt="x", model="nobody/nothing")),
    ):
        await rpc_error(call)
    return ""


async def cut(stubs: Stubs, sandbox: Sandbox) -> str:
    """Its stream breaks and is opened again."""
    await inject_faults(
        sandbox, {"do": "cut_stream", "after_bytes": 120, "how": "clean", "times": 1}
    )
    return await streamed(stubs, sandbox)


@pytest.mark.parametrize(
    "way",
    [
        succeeded,
        streamed,
        several,
        replayed,
        failed,
        cut,
        blocked,
        of_several_some_fail,
        cancelled,
        refused,
        never_bound,
        aborted,
        left,
        fallen_back,
    ],
)
async def test_calls_leave_no_reference_cycles(
    way: Way, sandbox: Sandbox, open_server: OpenServer
) -> None:
    """However it ends."""
    async with open_server(sandbox.url) as (stubs, server):
        if way is not refused:  # It is to be the only one.
            await succeeded(stubs, sandbox)
            await at_rest()
        with left_to_the_collector() as cycles:
            await way(stubs, sandbox)
            await at_rest()
            await server._api.rpc_metrics.wait_until_idle()
            assert dict(cycles()) == {}
