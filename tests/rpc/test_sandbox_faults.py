"""The server against what the sandbox does on a bad day: silence, no credit."""

import asyncio
import uuid
from typing import Literal

import grpc
import pytest

from mediagate.v1 import generation_pb2, image_pb2, options_pb2
from mediagate_sandbox.control_client import SandboxControl
from mediagate_sandbox.server import Sandbox, SandboxSettings
from tests.builders import image_request, stream_text_request, text_request
from tests.grpc_errors import reason_of, rpc_error

from .generation_waits import inject_faults
from .stubs import OpenServer, Stubs

OPTIONS = options_pb2.GenerationOptions(model="llama-70b")


@pytest.mark.parametrize("dialect", ["replicate", "cog"])
async def test_an_idle_stream_is_reopened(
    open_server: OpenServer, dialect: Literal["replicate", "cog"]
) -> None:
    """Closed without its end in every pause, it ends whole, from one create.

    Replicate's streams go on from the last id, Cog's begin again and are numbered.
    """
    settings = SandboxSettings(port=0, stream_idle_timeout=0.05, stream_dialect=dialect)
    async with Sandbox(settings) as sandbox, open_server(sandbox.url) as (stubs, _):
        prompt = "[[say=one |two |three |four]] [[boot_ms=150 first_ms=150 interval_ms=150]]"
        request = stream_text_request(prompt=prompt, options=OPTIONS)
        events = [each async for each in stubs.text.StreamText(request)]
        assert "".join(each.delta.text for each in events) == "one two three four"
        assert events[-1].WhichOneof("event") == "completed"
        state = await asyncio.to_thread(SandboxControl(sandbox.url).state)
        assert state["creates"]["total"] == 1
        (opened,) = state["streams_by_prediction"].values()
        assert opened > 1


async def test_an_account_without_credit(sandbox: Sandbox, sandbox_stubs: Stubs) -> None:
    """UPSTREAM_ACCOUNT without a word about bills; the same id may be sent again later."""
    control = SandboxControl(sandbox.url)
    await asyncio.to_thread(control.limits, credit="none")
    request = text_request(prompt="x", request_id=str(uuid.uuid4()), options=OPTIONS)
    error = await rpc_error(sandbox_stubs.text.GenerateText(request))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(error) == "UPSTREAM_ACCOUNT"
    assert "billing" not in str(error)
    await asyncio.to_thread(control.limits, credit="enough")
    answer = await sandbox_stubs.text.GenerateText(request)
    assert answer.generation.state == generation_pb2.Generation.STATE_SUCCEEDED
    bill = await asyncio.to_thread(control.bill)
    assert len(bill["entries"]) == 1


PICTURE = image_request(prompt="x", model="flux-schnell")


async def test_outputs_on_a_foreign_host(sandbox: Sandbox, sandbox_stubs: Stubs) -> None:
    """Another port of upstream's own host is foreign, too: nobody there is ever called."""
    called: list[str] = []

    def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.append(writer.get_extra_info("peername"))
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        fault = {"do": "foreign_output", "origin": f"http://127.0.0.1:{port}"}
        await inject_faults(sandbox, fault)
        response = await sandbox_stubs.image.GenerateImage(PICTURE)
    assert called == []
    (medium,) = response.generation.images.images
    assert f":{port}/" in medium.uri
    assert "OUTPUT_STORE_FAILED" in str(medium.error)
    assert not medium.id


@pytest.mark.parametrize("at", ["request", "answer"])
async def test_a_hanging_download_is_retried(
    sandbox: Sandbox, open_server: OpenServer, at: str
) -> None:
    """It is tried again once nothing has come for a while."""
    fault = {"do": "hang", "on": "output", "at": at, "times": 1}
    await inject_faults(sandbox, fault)
    async with open_server(sandbox.url, output_idle_timeout=0.2) as (stubs, _):
        response = await stubs.image.GenerateImage(PICTURE)
    (medium,) = response.generation.images.images
    assert medium.id
    fired = await asyncio.to_thread(SandboxControl(sandbox.url).fired)
    assert [each["do"] for each in fired] == ["hang"]


async def test_the_timeout_bounds_downloads(sandbox: Sandbox, open_server: OpenServer) -> None:
    """The timeout is over: callers get the generation as it stands, paid and not cancelled."""
    fault = {"do": "hang", "on": "output"}
    await inject_faults(sandbox, fault)
    request = image_pb2.GenerateImageRequest()
    request.CopyFrom(PICTURE)
    request.options.timeout.seconds = 5
    async with open_server(sandbox.url) as (stubs, _):
        response = await stubs.image.GenerateImage(request)
    assert response.generation.state == generation_pb2.Generation.STATE_FINALIZING
    assert response.generation.cost.usd_nanos == 3_000_000
