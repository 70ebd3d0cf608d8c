"""JSON by schema, tools, pictures and refusals, through the whole server."""

import json
from typing import Any

import aiohttp
import grpc
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from mediagate.v1 import (
    generation_pb2,
    generations_pb2,
    medium_pb2,
    modality_pb2,
    models_pb2,
    options_pb2,
    plan_pb2,
    text_pb2,
)
from mediagate_sandbox.server import Sandbox
from tests.builders import text_request
from tests.grpc_errors import fields_of, reason_of, rpc_error

from .scripted_upstream import ID, ScriptedUpstream, prediction, says, streams, token
from .stubs import Stubs

Options = options_pb2.GenerationOptions
Form = text_pb2.ResponseFormat
Turn = text_pb2.ChatMessage
Part = text_pb2.ChatPart
INVALID = grpc.StatusCode.INVALID_ARGUMENT
CAPITAL = {
    "type": "object",
    "properties": {"capital": {"type": "string"}, "people": {"type": "integer", "minimum": 0}},
    "required": ["capital", "people"],
    "additionalProperties": False,
}
GOOD = '{"capital": "Paris", "people": 2100000}'


def by_schema(schema: Any = None) -> Form:
    """JSON by a schema."""
    return Form(kind=Form.KIND_JSON_SCHEMA, json_schema=ParseDict(schema or CAPITAL, Struct()))


def fields_of_request(**fields: Any) -> dict[str, Any]:
    """The fields of a request for the capital."""
    fields.setdefault("response_format", by_schema())
    return {"prompt": "The capital of France?", "options": Options(model="llama-70b"), **fields}


def ended(output: Any, status: str = "succeeded", **fields: Any) -> dict[str, Any]:
    """A terminal prediction."""
    metrics = {"input_token_count": 1, "output_token_count": 1}
    return {"id": ID, "status": status, "output": output, "metrics": metrics, **fields}


async def read(stubs: Stubs, kinds: list[str | None], **fields: Any) -> None:
    """A stream to its end; what kinds of event it had."""
    request = text_pb2.StreamTextRequest(**(fields or fields_of_request()))
    async for event in stubs.text.StreamText(request):
        kinds += [event.WhichOneof("event")]


@pytest.mark.parametrize(
    "output",
    [
        [GOOD],
        ["```json\n", GOOD[:9], GOOD[9:], "\n```"],
        [f"<think>Hm: {{}}</think>\n\n{GOOD}"],
        [f"Here you are:\n```\n{GOOD}\n```\n"],
    ],
)
async def test_the_answer_is_valid_json(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, output: list[str]
) -> None:
    """Without what stood around it, whole and streamed alike; the model was told the schema."""
    scripted_upstream.creates = [says(ended(output), 201)]
    generation = (
        await stubs.text.GenerateText(text_pb2.GenerateTextRequest(**fields_of_request()))
    ).generation
    assert generation.state == generation_pb2.Generation.STATE_SUCCEEDED
    assert generation.text.text == GOOD
    (line,) = [line for line in generation.parameters if line.parameter == "response_format"]
    assert line.handling == plan_pb2.ParameterReport.HANDLING_EMULATED
    prompts = (
        scripted_upstream.posted[0]["input"]["prompt"]
        + scripted_upstream.posted[0]["input"]["prompt_template"]
    )
    assert "additionalProperties" in prompts


async def test_a_stream_returns_json_after_validation(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """In one delta, though upstream would have streamed it; sequences as ever."""
    scripted_upstream.creates = [says(prediction(scripted_upstream, "starting"), 201)]
    scripted_upstream.gets = [says(ended(["```json\n", GOOD, "\n```"]))]
    scripted_upstream.streams = [streams(token("```json", 0), token(GOOD, 1))]
    events = [
        event
        async for event in stubs.text.StreamText(text_pb2.StreamTextRequest(**fields_of_request()))
    ]
    deltas = [event for event in events if event.WhichOneof("event") == "delta"]
    assert [event.delta.text for event in deltas] == [GOOD]
    assert events[-1].WhichOneof("event") == "completed"
    assert events[-1].sequence == len(GOOD.encode())
    assert scripted_upstream.last_event_ids == []


@pytest.mark.parametrize(
    "answer",
    ["I cannot say.", '{"capital": "Paris"}', '{"capital": "Paris", "people": "many"}', ""],
)
async def test_an_answer_that_violates_the_schema_fails(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, answer: str
) -> None:
    """Paid, kept to be looked at, and never handed out as a success; so in a stream."""
    scripted_upstream.creates = [says(ended([answer]), 201)]
    generation = (
        await stubs.text.GenerateText(text_pb2.GenerateTextRequest(**fields_of_request()))
    ).generation
    assert generation.state == generation_pb2.Generation.STATE_FAILED
    assert generation.error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert generation.text.text == answer
    assert generation.cost.usd_nanos == 650 + 2750
    kinds: list[str | None] = []
    error = await rpc_error(read(stubs, kinds))
    assert reason_of(error) == "OUTPUT_INVALID"
    assert "delta" not in kinds


async def test_without_a_schema_any_json_is_valid(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """But JSON it must be."""
    request = text_pb2.GenerateTextRequest(
        **fields_of_request(response_format=Form(kind=Form.KIND_JSON))
    )
    scripted_upstream.creates = [says(ended(["[1, 2]"]), 201), says(ended(["one, two"]), 201)]
    states = [(await stubs.text.GenerateText(request)).generation.state for _ in range(2)]
    assert states == [
        generation_pb2.Generation.STATE_SUCCEEDED,
        generation_pb2.Generation.STATE_FAILED,
    ]


async def test_structured_output_of_the_sandbox(sandbox_stubs: Stubs) -> None:
    """The sandbox says what it is told to, in as many tokens as it likes."""
    request = text_pb2.GenerateTextRequest(**fields_of_request(prompt=f"[[say={GOOD}]]"))
    generation = (await sandbox_stubs.text.GenerateText(request)).generation
    assert json.loads(generation.text.text)["people"] == 2_100_000


async def test_every_model_of_the_catalog_gives_json(sandbox_stubs: Stubs) -> None:
    """Each that says so: by schema, valid, through whatever format its conversations take."""
    listed = await sandbox_stubs.models.ListModels(_texts())
    tried = 0
    for model in listed.models:
        if "json" not in model.capabilities or model.status != model.STATUS_LIVE:
            continue
        options = Options(model=model.slug)
        request = text_pb2.GenerateTextRequest(**fields_of_request(options=options))
        generation = (await sandbox_stubs.text.GenerateText(request)).generation
        assert generation.state == generation_pb2.Generation.STATE_SUCCEEDED, model.slug
        assert set(json.loads(generation.text.text)) == {"capital", "people"}
        tried += 1
    assert tried >= 20


def turn(role: Turn.Role.ValueType, *parts: Part, **fields: Any) -> Turn:
    """One turn."""
    return Turn(role=role, parts=parts, **fields)


PICTURE = Part(image=medium_pb2.MediaInput(uri="https://example.com/a.png"))
AUTO = text_pb2.ToolChoice(mode=text_pb2.ToolChoice.MODE_AUTO)
ADD = text_pb2.Tool(name="add", description="adds")
CALL = generation_pb2.ToolCall(id="1", name="add")
SAID = Part(text="Hi")
USER, ASSISTANT, TOOL = Turn.ROLE_USER, Turn.ROLE_ASSISTANT, Turn.ROLE_TOOL

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "tools": ({"prompt": "x", "tools": [ADD]}, "PARAMETER_UNSUPPORTED", "tools"),
    "a choice of tools": (
        {"prompt": "x", "tools": [ADD], "tool_choice": AUTO},
        "PARAMETER_UNSUPPORTED",
        "tool_choice",
    ),
    "a choice without tools": (
        {"prompt": "x", "tool_choice": AUTO},
        "INVALID_REQUEST",
        "tool_choice",
    ),
    "a tool's answer": (
        {"messages": [turn(USER, SAID), turn(TOOL, SAID, tool_call_id="1")]},
        "PARAMETER_UNSUPPORTED",
        "messages[1].role",
    ),
    "a tool's call": (
        {"messages": [turn(ASSISTANT, SAID, tool_calls=[CALL]), turn(USER, SAID)]},
        "PARAMETER_UNSUPPORTED",
        "messages[0].tool_calls",
    ),
    "a picture for a blind model": (
        {"messages": [turn(USER, SAID, PICTURE)]},
        "PARAMETER_UNSUPPORTED",
        "messages[0].parts[1].image",
    ),
    "no schema": (
        {"prompt": "x", "response_format": Form(kind=Form.KIND_JSON_SCHEMA)},
        "INVALID_REQUEST",
        "response_format.json_schema",
    ),
    "a schema for any JSON": (
        {
            "prompt": "x",
            "response_format": Form(kind=Form.KIND_JSON, json_schema=ParseDict({}, Struct())),
        },
        "INVALID_REQUEST",
        "response_format.json_schema",
    ),
    "a bad schema": (
        {"prompt": "x", "response_format": by_schema({"type": "nothing"})},
        "INVALID_REQUEST",
        "response_format.json_schema",
    ),
    "a schema elsewhere": (
        {"prompt": "x", "response_format": by_schema({"$ref": "http://127.0.0.1:1/a"})},
        "INVALID_REQUEST",
        "response_format.json_schema",
    ),
    "a huge schema": (
        {"prompt": "x", "response_format": by_schema({"description": "x" * 70_000})},
        "INVALID_REQUEST",
        "response_format.json_schema",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_unsupported_formats_are_refused_before_spending(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, name: str
) -> None:
    """By field, in both rpcs, in lenient mode too."""
    fields, reason, field = REFUSED[name]
    fields = {**fields, "options": Options(model="llama-70b")}
    with pytest.raises(grpc.aio.AioRpcError) as unary_error:
        await stubs.text.GenerateText(text_pb2.GenerateTextRequest(**fields))
    with pytest.raises(grpc.aio.AioRpcError) as streamed:
        await read(stubs, [], **fields)
    for caught in (unary_error, streamed):
        assert caught.value.code() is INVALID
        assert reason_of(caught.value) == reason
        assert field in fields_of(caught.value)
    assert scripted_upstream.posted == []


async def test_an_image_reaches_every_vision_model(sandbox: Sandbox, sandbox_stubs: Stubs) -> None:
    """Every text model of the catalog: shown, as upstream sees it, or refused."""
    count = 0
    listed = await sandbox_stubs.models.ListModels(_texts())
    for model in listed.models:
        request = text_pb2.GenerateTextRequest(
            messages=[turn(USER, SAID, PICTURE)], options=Options(model=model.slug)
        )
        if model.status != model.STATUS_LIVE:
            continue
        if "vision" in model.capabilities:
            generation = (await sandbox_stubs.text.GenerateText(request)).generation
            assert generation.parameters[0].handling == plan_pb2.ParameterReport.HANDLING_HONOURED
            assert PICTURE.image.uri in await seen_upstream(sandbox, generation)
            count += 1
        else:
            error = await rpc_error(sandbox_stubs.text.GenerateText(request))
            assert reason_of(error) == "PARAMETER_UNSUPPORTED"
    assert count >= 2


async def seen_upstream(sandbox: Sandbox, generation: generation_pb2.Generation) -> str:
    """The input of a generation's prediction as upstream has it, as JSON."""
    prediction_url = f"{sandbox.base_url}/predictions/{generation.attempts[0].prediction_id}"
    async with (
        aiohttp.ClientSession(headers={"Authorization": "Bearer any"}) as session,
        session.get(prediction_url) as answer,
    ):
        return json.dumps((await answer.json())["input"])


def _texts() -> models_pb2.ListModelsRequest:
    return models_pb2.ListModelsRequest(modality=modality_pb2.MODALITY_TEXT, page_size=1000)


async def test_a_content_refusal_is_reported_as_one(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Its own words stay inside; what nobody knows is no more than a failure."""
    scripted_upstream.creates = [
        says(ended(None, "failed", error="NSFW content detected in xyzzy"), 201),
        says(ended(None, "failed", error="xyzzy went wrong"), 201),
    ]
    reasons = []
    for _ in range(2):
        request = text_request(prompt="x")
        generation = (await stubs.text.GenerateText(request)).generation
        assert generation.state == generation_pb2.Generation.STATE_FAILED
        reasons.append(generation.attempts[0].reason)
        assert "xyzzy" not in str(generation)
    assert reasons == ["CONTENT_BLOCKED", "RUN_FAILED"]
    listed = await stubs.generations.ListGenerations(generations_pb2.ListGenerationsRequest())
    codes = {generation.error.code for generation in listed.generations}
    assert codes == {
        grpc.StatusCode.FAILED_PRECONDITION.value[0],
        grpc.StatusCode.FAILED_PRECONDITION.value[0],
    }
