"""Calls that are being planned hold nobody up, however long upstream takes to show a model."""

import asyncio
from typing import Any

import grpc
import pytest

from mediagate.v1 import models_pb2, text_pb2

from .scripted_upstream import ID, ScriptedUpstream, says
from .stubs import Stubs

CALLS = 40


async def test_a_call_beside_many_that_wait_for_a_model(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """A tenant's own: one who comes back to a run has only the seconds of its grace."""
    scripted_upstream.creates = [says({"id": ID, "status": "processing"}, 201)]
    scripted_upstream.gets = [
        says({"id": ID, "status": "succeeded", "output": ["Hello"], "metrics": {}})
    ]
    scripted_upstream.models_answered = asyncio.Event()
    waiting: list[Any] = [
        stubs.models.RunModel(models_pb2.RunModelRequest(model="some/model")) for _ in range(CALLS)
    ]
    await scripted_upstream.models_asked.wait()
    request = text_pb2.GenerateTextRequest(prompt="Hello")
    made = (await stubs.text.GenerateText(request)).generation
    assert made.text.text == "Hello"
    assert not any(one.done() for one in waiting)
    scripted_upstream.models_answered.set()
    for one in waiting:
        with pytest.raises(grpc.aio.AioRpcError):
            await one
