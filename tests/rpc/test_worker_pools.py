"""What reads large answers for a long time holds no process that a check by a schema waits for."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from mediagate.v1 import options_pb2, text_pb2
from mediagate_server.catalog.schemas.json_schema import cheap_steps
from mediagate_server.upstream.replicate import large_responses
from mediagate_server.workers.worker_pool import Task
from tests.builders import text_request

from .scripted_upstream import ID, ScriptedUpstream, says
from .stubs import OpenServer, Stubs

ROOT = Path(__file__).parents[2]
Form = text_pb2.ResponseFormat
LLAMA = options_pb2.GenerationOptions(model="llama-70b")


def asking(schema: dict[str, Any]) -> text_pb2.GenerateTextRequest:
    """A request for JSON by a schema, which is only checked."""
    form = Form(kind=Form.KIND_JSON_SCHEMA, json_schema=ParseDict(schema, Struct()))
    return text_request(prompt="x", options=LLAMA, response_format=form, validate_only=True)


def received_event(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Is set once a large answer was received whole, and is about to be read."""
    received = asyncio.Event()
    original = large_responses.LargeResponses.receive

    async def receive(*arguments: object, **options: object) -> large_responses.ResponseFile:
        body = await original(*arguments, **options)  # type: ignore[arg-type]
        received.set()
        return body

    monkeypatch.setattr(large_responses.LargeResponses, "receive", receive)
    return received


async def test_schema_checks_do_not_wait_for_large_responses(
    scripted_upstream: ScriptedUpstream,
    stubs: Stubs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the same tenant, and many of them."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "workers"))
    monkeypatch.setattr(
        large_responses, "_PREDICTION", Task("hostile_tasks:reduce_on_signal", 2**30)
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    received = received_event(monkeypatch)
    metrics = {"input_token_count": 1, "output_token_count": 1}
    ended = {"id": ID, "status": "succeeded", "output": ["word"] * 100_000, "metrics": metrics}
    scripted_upstream.creates = [says(ended, 201)]
    requests = [text_request(prompt="x", options=LLAMA) for _ in range(3)]
    tasks = [asyncio.ensure_future(stubs.text.GenerateText(request)) for request in requests]
    await received.wait()
    # By patterns, it is not checked within the server itself.
    schema = {"type": "object", "not": {"patternProperties": {"b": {}}}}
    assert cheap_steps(schema) is None
    await stubs.text.GenerateText(asking(schema))
    assert not any(call.done() for call in tasks)
    (tmp_path / "told").touch()
    await asyncio.gather(*tasks)


async def test_shutdown_does_not_wait_for_a_hanging_worker(
    scripted_upstream: ScriptedUpstream,
    open_server: OpenServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the create's answer holds is not known then: the next server looks for it."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "workers"))
    monkeypatch.setattr(
        large_responses, "_PREDICTION", Task("hostile_tasks:reduce_on_signal", 2**30)
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    received = received_event(monkeypatch)
    ended = {"id": ID, "status": "succeeded", "output": ["word"] * 100_000, "metrics": {}}
    scripted_upstream.creates = [says(ended, 201)]
    async with asyncio.timeout(40):
        async with open_server(
            scripted_upstream.url, upstream_create_timeout=2.0, upstream_connect_timeout=1.0
        ) as (stubs, _):
            request = text_request(prompt="x", options=LLAMA)
            call = asyncio.ensure_future(stubs.text.GenerateText(request))
            await received.wait()
        (ended_by,) = await asyncio.gather(call, return_exceptions=True)
    assert isinstance(ended_by, asyncio.CancelledError | grpc.aio.AioRpcError)
