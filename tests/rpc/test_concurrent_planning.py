"""Calls that are being planned hold nobody up, however long upstream takes to show a model."""

import asyncio
from typing import Any

from tests.builders import run_model_request, text_request
from tests.grpc_errors import rpc_error

from .scripted_upstream import ID, ScriptedUpstream, says
from .stubs import Stubs

CALLS = 40


async def test_planning_is_not_delayed_by_calls_waiting_for_a_model(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """A tenant's own: one who comes back to a run has only the seconds of its grace."""
    scripted_upstream.creates = [says({"id": ID, "status": "processing"}, 201)]
    scripted_upstream.gets = [
        says({"id": ID, "status": "succeeded", "output": ["Hello"], "metrics": {}})
    ]
    scripted_upstream.models_answered = asyncio.Event()
    waiting: list[Any] = [
        stubs.models.RunModel(run_model_request("some/model")) for _ in range(CALLS)
    ]
    await scripted_upstream.model_requested.wait()
    request = text_request(prompt="Hello")
    generation = (await stubs.text.GenerateText(request)).generation
    assert generation.text.text == "Hello"
    assert not any(call.done() for call in waiting)
    scripted_upstream.models_answered.set()
    for call in waiting:
        await rpc_error(call)
