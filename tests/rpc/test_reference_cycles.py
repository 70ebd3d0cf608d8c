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

from mediagate.v1 import generations_pb2, image_pb2, options_pb2, text_pb2
from mediagate_sandbox.server import Sandbox
from mediagate_server.observability import metrics

from .stubs import OpenServer, Stubs
from .test_budget_release import (
    Way,
    aborted,
    blocked,
    cancelled,
    goes_wrong,
    left,
    of_several_some_fail,
    refused,
    taken_over,
)

_PACKAGES = frozenset({"mediagate", "mediagate_server"})


def _is_ours(one: object) -> bool:
    if isinstance(one, MethodType):
        one = one.__func__
    if isinstance(one, FunctionType):
        return str(one.__module__).partition(".")[0] in _PACKAGES
    if isinstance(one, TracebackType):
        one = one.tb_frame
    if isinstance(one, FrameType):
        return "mediagate_server" in one.f_code.co_filename
    if isinstance(one, CoroutineType):
        # One that is over holds nothing: asyncio's own timeout may keep it with its task.
        return one.cr_frame is not None and "mediagate_server" in one.cr_code.co_filename
    return type(one).__module__.partition(".")[0] in _PACKAGES


def _name(one: object) -> str:
    if isinstance(one, TracebackType):
        one = one.tb_frame
    if isinstance(one, FrameType):
        return f"{one.f_code.co_qualname}:{one.f_lineno}"
    return f"{type(one).__qualname__} {getattr(one, '__qualname__', '')}"


@contextlib.contextmanager
def left_to_the_collector() -> Iterator[Callable[[], Counter[str]]]:
    """Counts, by kind, what of ours only the collector could free since the beginning."""

    def found() -> Counter[str]:
        gc.collect()
        return Counter(_name(one) for one in gc.garbage if _is_ours(one))

    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def at_rest() -> None:
    """Until no generation lives here any more."""
    gauge = metrics.generations_in_flight
    while any(  # noqa: ASYNC110 - nothing tells a test of it
        sample.value for metric in gauge.collect() for sample in metric.samples
    ):
        await asyncio.sleep(0.01)


async def succeeded(stubs: Stubs, _: Sandbox) -> str:
    """A unary text."""
    made = await stubs.text.GenerateText(text_pb2.GenerateTextRequest(prompt="x"))
    return made.generation.id


async def streamed(stubs: Stubs, _: Sandbox) -> str:
    """The same as a stream."""
    events = [one async for one in stubs.text.StreamText(text_pb2.StreamTextRequest(prompt="x"))]
    return events[0].started.generation_id


async def several(stubs: Stubs, _: Sandbox) -> str:
    """Images of more than one run."""
    made = await stubs.image.GenerateImage(image_pb2.GenerateImageRequest(prompt="x", count=3))
    return made.generation.id


async def replayed(stubs: Stubs, _: Sandbox) -> str:
    """The same request again, while the first runs and after its end."""
    request = text_pb2.StreamTextRequest(
        prompt="[[tokens=5 interval_ms=5]] x", request_id=str(uuid4())
    )

    async def read() -> Any:
        events = [one async for one in stubs.text.StreamText(request)]
        return events[0]

    first, second = await asyncio.gather(read(), read())
    third = await read()
    assert first.started.generation_id == second.started.generation_id
    assert third.started.generation_id == first.started.generation_id
    return str(first.started.generation_id)


async def failed(stubs: Stubs, sandbox: Sandbox) -> str:
    """In the midst of a stream."""
    call = stubs.text.StreamText(text_pb2.StreamTextRequest(prompt="[[fail_after=2]] x"))
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
        stubs.text.GenerateText(
            text_pb2.GenerateTextRequest(
                prompt="x", options=options_pb2.GenerationOptions(model="nobody/nothing")
            )
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    return ""


async def cut(stubs: Stubs, sandbox: Sandbox) -> str:
    """Its stream breaks and is opened again."""
    await goes_wrong(sandbox, {"do": "cut_stream", "after_bytes": 120, "how": "clean", "times": 1})
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
        taken_over,
    ],
)
async def test_no_cycles_are_left(way: Way, sandbox: Sandbox, open_server: OpenServer) -> None:
    """However it ends."""
    async with open_server(sandbox.url) as (stubs, gate):
        if way is not refused:  # It is to be the only one.
            await succeeded(stubs, sandbox)
            await at_rest()
        with left_to_the_collector() as found:
            await way(stubs, sandbox)
            await at_rest()
            await gate._api.rpc_metrics.wait_until_idle()
            assert dict(found()) == {}
