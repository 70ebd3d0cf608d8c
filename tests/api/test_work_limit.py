"""How many calls of one tenant are worked on at once: a burst waits in its own tenant's queue."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool

from mediagate.v1 import text_pb2, text_pb2_grpc
from mediagate_server.api.interceptors.rpc_call import RpcCall
from mediagate_server.api.service_registration import STORE_BOUND_METHODS
from mediagate_server.errors import CircuitOpen
from mediagate_server.rpc_context import Caller
from tests.builders import text_request

from .conftest import MOST_AT_WORK, InterceptorServer, Start
from .fake_servicers import Context, Texts

LIMITED = ("/mediagate.v1.TextService/GenerateText",)


class Worked(Texts):
    """Holds each call until it is let go; tells who began, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.let_go: dict[str, asyncio.Event] = {}

    async def GenerateText(
        self, request: text_pb2.GenerateTextRequest, context: Context
    ) -> text_pb2.GenerateTextResponse:
        self.let_go[request.prompt] = asyncio.Event()
        self.begun.put_nowait(request.prompt)
        await self.let_go[request.prompt].wait()
        if request.prompt.endswith("fails"):
            raise CircuitOpen("down", retry_after=1)
        return text_pb2.GenerateTextResponse()


async def by_metadata(call: RpcCall) -> Caller:
    """Whoever the caller says it is."""
    return Caller(str(call.metadata("tenant")))


def text(server: InterceptorServer, tenant: str, prompt: str) -> Any:
    """One call, that is under way."""
    stub: Any = text_pb2_grpc.TextServiceStub(server.channel)
    return stub.GenerateText(text_request(prompt=prompt), metadata=(("tenant", tenant),))


async def begun(texts: Worked) -> str:
    """Who begins next."""
    return await asyncio.wait_for(texts.begun.get(), 10)


async def test_a_burst_delays_only_its_own_tenant(start: Start) -> None:
    """As many as there are places begin, then in order of arrival; another tenant's at once."""
    texts = Worked()
    server = await start(texts, authenticate=by_metadata, limited=LIMITED)
    names = [f"{number}" for number in range(MOST_AT_WORK + 3)]
    calls = []
    for name in names[:MOST_AT_WORK]:
        calls.append(text(server, "flood", name))
        assert await begun(texts) == name
    calls += [text(server, "flood", name) for name in names[MOST_AT_WORK:]]
    other = text(server, "other", "other")
    assert await begun(texts) == "other"
    texts.let_go["other"].set()
    await other
    for name, later in zip(names, names[MOST_AT_WORK:], strict=False):
        texts.let_go[name].set()
        assert await begun(texts) == later
    for event in texts.let_go.values():
        event.set()
    await asyncio.gather(*calls)


async def test_a_slot_is_released_however_a_call_ends(start: Start) -> None:
    """By an error, by a cancel in the midst of its work, by one while it waited."""
    texts = Worked()
    server = await start(texts, authenticate=by_metadata, limited=LIMITED)
    for round_ in range(3):
        failing = text(server, "a", f"{round_} fails")
        await begun(texts)
        leaving = text(server, "a", f"{round_} leaves")
        await begun(texts)
        waiting = text(server, "a", f"{round_} waits")
        waiting.cancel()
        leaving.cancel()
        texts.let_go[f"{round_} fails"].set()
        assert await failing.code() is grpc.StatusCode.UNAVAILABLE
    last = []
    for number in range(MOST_AT_WORK):
        last.append(text(server, "a", f"last {number}"))
        while (name := await begun(texts)) != f"last {number}":
            texts.let_go[name].set()  # It was let in before its caller had left.
    for event in texts.let_go.values():
        event.set()
    await asyncio.gather(*last)


async def test_waiting_methods_take_no_slot(start: Start) -> None:
    """Those that may wait for a generation's end would keep it for as long."""
    texts = Worked()
    server = await start(texts, authenticate=by_metadata, limited=())
    calls = [text(server, "a", str(number)) for number in range(3 * MOST_AT_WORK)]
    for _ in calls:
        await begun(texts)
    for event in texts.let_go.values():
        event.set()
    await asyncio.gather(*calls)


@pytest.mark.parametrize("path", STORE_BOUND_METHODS)
def test_limited_methods_respond_at_once(path: str) -> None:
    """Each is in the contract, has one request and one reply, and cannot be asked to wait."""
    service, _, name = path.removeprefix("/").rpartition("/")
    method = descriptor_pool.Default().FindMethodByName(f"{service}.{name}")
    assert not method.client_streaming
    assert not method.server_streaming
    assert "wait" not in method.input_type.fields_by_name
