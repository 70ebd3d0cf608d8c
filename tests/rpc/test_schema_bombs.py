"""JSON Schemas of hostile tenants and models, through the whole server: refused, or OUTPUT_INVALID.

Nobody else notices. Through the wire; what each bomb does is tested in tests/catalog.
"""

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

import pytest
from aiohttp import web
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from mediagate.v1 import cost_pb2, generation_pb2, models_pb2, options_pb2, text_pb2
from tests.builders import text_request
from tests.catalog.schema_bombs import BOMBS, document, growing, nested
from tests.grpc_errors import fields_of, reason_of, rpc_error

from .scripted_upstream import ID, ScriptedUpstream, says
from .stubs import OpenServer, Stubs

Form = text_pb2.ResponseFormat
State = generation_pb2.Generation
LLAMA = options_pb2.GenerationOptions(model="llama-70b")


def asking(schema: Any) -> dict[str, Any]:
    """The fields of a request for JSON by a schema."""
    form = Form(kind=Form.KIND_JSON_SCHEMA, json_schema=ParseDict(schema, Struct()))
    return {"prompt": "x", "options": LLAMA, "response_format": form}


def ended(text: str) -> dict[str, Any]:
    """A prediction that has said this, and what it is billed by."""
    metrics = {"input_token_count": 1, "output_token_count": 1}
    return {"id": ID, "status": "succeeded", "output": [text], "metrics": metrics}


@pytest.mark.parametrize("name", ["allOf", "by dynamic anchors", "patternProperties"])
async def test_an_expensive_schema_is_refused_by_field(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, name: str
) -> None:
    """In every rpc that takes a schema; nothing is sent."""
    fields = asking(BOMBS[name])
    calls: tuple[Awaitable[Any], ...] = (
        stubs.text.GenerateText(text_pb2.GenerateTextRequest(**fields)),
        stubs.text.GenerateText(text_pb2.GenerateTextRequest(**fields, validate_only=True)),
        stubs.models.EstimateCost(
            models_pb2.EstimateCostRequest(text=text_pb2.GenerateTextRequest(**fields))
        ),
    )
    for call, prefix in zip(calls, ("", "", "text."), strict=True):
        error = await rpc_error(call)
        assert reason_of(error) == "INVALID_REQUEST"
        assert list(fields_of(error)) == [f"{prefix}response_format.json_schema"]
    assert scripted_upstream.posted == []


@pytest.mark.parametrize("answer", ["bomb", "large", "deep"])
async def test_an_answer_too_expensive_to_validate_is_invalid(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer, answer: str
) -> None:
    """Paid and kept as it came; so it is after a restart, and others are served meanwhile."""
    schema, value = {
        "bomb": (growing("oneOf"), nested(60)),
        "large": ({"items": {"type": "string"}}, [1] * 60_000),
        "deep": (growing("allOf"), nested(60, [])),
    }[answer]
    text = json.dumps(value)
    posted = asyncio.Event()

    async def first(request: web.Request) -> web.StreamResponse:
        posted.set()
        return await says(ended(text), 201)(request)

    scripted_upstream.creates = [first, says(ended("fine"), 201)]
    async with open_server(scripted_upstream.url) as (stubs, _):
        hostile = stubs.text.GenerateText(text_pb2.GenerateTextRequest(**asking(schema)))
        await posted.wait()
        for _ in range(10):
            usual = await stubs.text.GenerateText(text_request(prompt="x", options=LLAMA))
            assert usual.generation.text.text == "fine"
        generation = (await hostile).generation
    assert generation.state == State.STATE_FAILED
    assert generation.error.details
    assert generation.text.text == text
    assert generation.cost.state == cost_pb2.COST_STATE_SETTLED
    assert generation.cost.usd_nanos == 650 + 2750


@pytest.mark.parametrize("name", ["allOf", "by anchors", "unevaluatedProperties"])
async def test_a_model_with_an_expensive_schema_is_not_run(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, name: str
) -> None:
    """Again and again: it is found out once."""
    version = {"id": "1" * 64, "openapi_schema": document(BOMBS[name])}
    scripted_upstream.models["o/n"] = {
        "owner": "o",
        "name": "n",
        "is_official": True,
        "latest_version": version,
    }
    request = ParseDict({"model": "o/n", "input": {"a": 1}}, models_pb2.RunModelRequest())
    for _ in range(5):
        error = await rpc_error(stubs.models.RunModel(request))
        assert reason_of(error) == "INVALID_REQUEST"
        assert list(fields_of(error)) == ["model"]
    assert scripted_upstream.posted == []


async def test_an_input_too_expensive_to_validate_is_not_sent(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """By the model's own schema, which takes small ones."""
    version = {"id": "1" * 64, "openapi_schema": document(growing("oneOf"))}
    scripted_upstream.models["o/n"] = {
        "owner": "o",
        "name": "n",
        "is_official": True,
        "latest_version": version,
    }
    request = ParseDict({"model": "o/n", "input": {"a": nested(28)}}, models_pb2.RunModelRequest())
    error = await rpc_error(stubs.models.RunModel(request))
    assert reason_of(error) == "INVALID_REQUEST"
    assert list(fields_of(error)) == ["input"]
    assert scripted_upstream.posted == []
