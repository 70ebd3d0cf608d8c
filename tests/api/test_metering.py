"""What a call cost goes out with its status, however it ends, and not where it is not known."""

from contextvars import Context
from typing import Any

import pytest

from mediagate.v1 import text_pb2_grpc
from mediagate_server import rpc_context
from mediagate_server.api.interceptors.cost_trailer import COST_TRAILER
from mediagate_server.rpc_context import CallSummary
from tests.builders import stream_text_request, text_request

from .conftest import Start
from .fake_servicers import Texts, WrittenTexts


async def trailers(call: Any) -> dict[str, str]:
    """The trailing metadata of a good call."""
    if hasattr(call, "__aiter__"):
        async for _ in call:
            pass
    else:
        await call
    return dict(tuple(await call.trailing_metadata()))


async def test_the_cost_is_a_trailer(start: Start) -> None:
    """Of a unary call and of a stream."""
    server = await start(Texts())
    stub: Any = text_pb2_grpc.TextServiceStub(server.channel)
    for call in (
        stub.GenerateText(text_request(prompt="hello")),
        stub.StreamText(stream_text_request(prompt="hello")),
    ):
        assert (await trailers(call))[COST_TRAILER] == "1250"


async def test_an_unknown_cost_is_not_sent(start: Start) -> None:
    """No cost reported: no trailer, and certainly not zero."""
    server = await start(WrittenTexts())
    stub: Any = text_pb2_grpc.TextServiceStub(server.channel)
    call = stub.GenerateText(text_request(prompt="hello"))
    assert COST_TRAILER not in await trailers(call)


def test_a_receipt_accumulates() -> None:
    """What is not known yet does not wipe out what is."""

    def fill() -> CallSummary:
        rpc_context.bind_summary(CallSummary("t"))
        rpc_context.update_summary(generation_id="g")
        rpc_context.update_summary(cost_nanos=0)
        rpc_context.update_summary(model="a/b")
        return rpc_context.current_summary()

    assert Context().run(fill) == CallSummary("t", {}, "g", "a/b", 0)


def test_no_receipt_outside_an_rpc() -> None:
    """Reporting where nobody opened a receipt is a bug, and is told."""
    with pytest.raises(LookupError):
        Context().run(lambda: rpc_context.update_summary(cost_nanos=1))
