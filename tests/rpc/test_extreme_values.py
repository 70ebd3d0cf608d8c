"""Values that JSON can say and no store, contract or clock can hold: they harm nobody.

Whatever upstream says of a run: it ends, its cost is exact or unknown, and everything that shows it
afterwards works, for it and for everybody else.
"""

import asyncio
import json
from decimal import Decimal
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from mediagate.v1 import (
    admin_pb2,
    cost_pb2,
    generation_pb2,
    generations_pb2,
    options_pb2,
    usage_pb2,
)
from mediagate_server.config import Budget
from tests.builders import image_request, run_model_request, text_request
from tests.grpc_errors import fields_of, rpc_error

from .generation_waits import get_generation
from .scripted_upstream import ID, ScriptedUpstream, says
from .stubs import OpenServer, Stubs
from .tenant_keys import channel_of, tenant

State = generation_pb2.Generation
UNKNOWN, SETTLED = cost_pb2.COST_STATE_UNKNOWN, cost_pb2.COST_STATE_SETTLED
TOKENS = {"input_token_count": 12, "output_token_count": 34, "predict_time": 1.25}
COST = 12 * 650 + 34 * 2750
NINES = "9" * 400


def body(**fields: Any) -> str:
    """A prediction that has succeeded; a text that begins with `=` is put in as it is."""
    document = {"id": ID, "status": "succeeded", "output": ["a"], "metrics": TOKENS}
    text = json.dumps({**document, **fields})
    for value in fields.values():
        if isinstance(value, str) and value.startswith("="):
            text = text.replace(json.dumps(value), value[1:])
    return text


def metrics(**literals: str) -> str:
    """The usual metrics with some of them in the place of others, as JSON literals."""
    fields = {name: json.dumps(value) for name, value in TOKENS.items()} | literals
    return "={" + ",".join(f'"{name}":{literal}' for name, literal in fields.items()) + "}"


async def check_lists(stubs: Stubs) -> None:
    """Lists, sums and charges work, and are what clients in any language can read."""
    listed = await stubs.generations.ListGenerations(generations_pb2.ListGenerationsRequest())
    used = await stubs.usage.GetUsage(usage_pb2.GetUsageRequest())
    charges = await stubs.usage.ListCharges(usage_pb2.ListChargesRequest())
    for response in (listed, used, charges):
        json_format.MessageToJson(response)


async def text(stubs: Stubs) -> generation_pb2.Generation:
    """A text at its end."""
    answer = await stubs.text.GenerateText(text_request(prompt="x", model="llama-70b"))
    return answer.generation


@pytest.mark.parametrize(
    ("metrics", "cost"),
    [
        ({"metrics": metrics(output_token_count=str(2**63))}, None),
        ({"metrics": metrics(output_token_count=str(2**62))}, None),
        ({"metrics": metrics(output_token_count=NINES)}, None),
        ({"metrics": metrics(output_token_count="9" * 5_000)}, None),
        ({"metrics": metrics(output_token_count="-1")}, None),
        ({"metrics": metrics(output_token_count="NaN")}, None),
        ({"metrics": metrics(output_token_count="-Infinity")}, None),
        ({"metrics": metrics(output_token_count="1e400")}, None),
        ({"metrics": metrics(output_token_count="1e30")}, None),
        ({"metrics": metrics(output_token_count='"34"')}, None),
        ({"metrics": metrics(output_token_count="true")}, None),
        ({"metrics": metrics(output_token_count="[34]")}, None),
        ({"metrics": metrics(output_token_count='{"n":34}')}, None),
        ({"metrics": metrics(output_token_count=str(10**15))}, 12 * 650 + 10**15 * 2750),
        ({"metrics": metrics(predict_time="1e13")}, COST),
        ({"metrics": metrics(predict_time="-3")}, COST),
        ({"metrics": metrics(predict_time="NaN", other="[[[1]]]", more='{"a":{"b":1}}')}, COST),
        ({"metrics": metrics(image_output_count=str(2**31))}, COST),
        ({"metrics": metrics(**{"k" * 100_000: "1", "nul\\u0000": "2"})}, COST),
        ({"metrics": metrics(output_token_count="[" * 5_000 + "]" * 5_000)}, None),
        ({"completed_at": "9999-12-31T23:59:59Z", "started_at": "9999-12-31T23:59:59Z"}, COST),
        ({"started_at": "0001-01-01T00:00:00+05:00"}, COST),
        ({"completed_at": "2020-01-01T00:00:00Z", "started_at": "2021-01-01T00:00:00Z"}, COST),
        ({"created_at": "=1e400", "started_at": "=[]", "completed_at": "=-1"}, COST),
        ({"logs": "\0\ud800", "error": "=[[NaN]]", "model": "=5"}, COST),
        ({"input": "=" + "[" * 2_000 + "]" * 2_000}, COST),
    ],
)
async def test_extreme_values_are_settled_and_readable(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, metrics: dict[str, Any], cost: int | None
) -> None:
    """At its exact cost, or at one that is said to be unknown: never at none."""
    scripted_upstream.creates = [says({"id": ID, "status": "starting"}, 201)]
    scripted_upstream.gets = [says(body(**metrics))]
    generation = await text(stubs)
    assert generation.state == State.STATE_SUCCEEDED
    assert generation.text.text == "a"
    assert generation.cost.state == (SETTLED if cost else UNKNOWN)
    assert generation.cost.usd_nanos == (cost or 0)
    assert generation.cost.HasField("usd_nanos") == bool(cost)
    assert generation.start_time.ToNanoseconds() <= generation.complete_time.ToNanoseconds()
    await check_lists(stubs)


async def test_other_generations_of_the_batch_are_unaffected(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Many end at once, every other one with what cannot be written: the rest end as ever."""
    scripted_upstream.creates = [says({"id": ID, "status": "starting"}, 201)]
    absurd = body(metrics=metrics(output_token_count=str(2**63), predict_time="1e13"))
    scripted_upstream.gets = [says(absurd if number % 2 else body()) for number in range(40)]
    generations = await asyncio.gather(*(text(stubs) for _ in range(40)))
    assert all(generation.state == State.STATE_SUCCEEDED for generation in generations)
    assert sorted(generation.cost.usd_nanos for generation in generations) == [0] * 20 + [COST] * 20
    await check_lists(stubs)


async def test_sums_beyond_64_bits(scripted_upstream: ScriptedUpstream, stubs: Stubs) -> None:
    """Each figure can be held, and their sums cannot: they are left out, the others are exact."""
    most = 2**63 - 1
    metrics = {"input_token_count": most, "output_token_count": 0, "predict_time": 9e9}
    scripted_upstream.creates = [
        says(body(metrics={**metrics, "image_output_count": 2**31 - 1}), 201)
    ]
    for _ in range(3):
        assert (await text(stubs)).usage.input_tokens == most
    (total,) = (await stubs.usage.GetUsage(usage_pb2.GetUsageRequest())).totals
    assert (total.charges, total.unknown_charges, total.settled_usd_nanos) == (3, 3, 0)
    assert not total.usage.HasField("input_tokens")
    assert not total.usage.HasField("images")
    assert total.usage.output_tokens == 0
    assert total.usage.run_duration.ToNanoseconds() == 3 * 9 * 10**18
    near = 3 * 10**15
    scripted_upstream.creates = [
        says(body(metrics={"input_token_count": 0, "output_token_count": near}))
    ]
    for _ in range(2):
        assert (await text(stubs)).cost.usd_nanos == near * 2750
    (total,) = (await stubs.usage.GetUsage(usage_pb2.GetUsageRequest())).totals
    assert total.settled_usd_nanos == most
    await check_lists(stubs)


async def test_an_absurd_image_count_is_not_replaced_by_our_own(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """What upstream told and nobody can reckon with is no reason to guess."""
    picture = "data:image/png;base64,iVBORw0KGgo="
    for literal in (str(2**63), "-1", "NaN", "[1]"):
        document = body(
            output=[picture], metrics=metrics(image_output_count=literal, image_count=literal)
        )
        scripted_upstream.creates = [says(document, 201)]
        answer = await stubs.image.GenerateImage(image_request(prompt="x", model="flux-schnell"))
        assert answer.generation.cost.state == UNKNOWN
    await check_lists(stubs)


UNREADABLE = (
    "=[1,2]",
    "=[]",
    "=5",
    "=true",
    "none",
    "",
    "=" + '{"a":' * 200 + "1" + "}" * 200,
    "={" + ",".join(f'"m{n}":{n}' for n in range(1_001)) + "}",
    '={"x":"' + "y" * 300_000 + '"}',
    '={"image_output_count":1,"x":[' + "0," * 150_000 + "0]}",
)


@pytest.mark.parametrize("status", ["succeeded", "failed"])
@pytest.mark.parametrize("document", UNREADABLE, ids=lambda document: document[:12])
async def test_unreadable_metrics_leave_the_cost_unknown(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, document: str, status: str
) -> None:
    """They are not as if there were none: neither our own count nor nothing is what it cost."""
    picture = "data:image/png;base64,iVBORw0KGgo="
    output = [picture] if status == "succeeded" else None
    scripted_upstream.creates = [says(body(status=status, output=output, metrics=document), 201)]
    answer = await stubs.image.GenerateImage(
        image_request(
            prompt="x",
            model="flux-schnell",
            fallback=options_pb2.FallbackPolicy(mode=options_pb2.FallbackPolicy.MODE_NONE),
        )
    )
    assert answer.generation.cost.state == UNKNOWN
    await check_lists(stubs)


RAW = "someone/anything"


async def run(stubs: Stubs, scripted: ScriptedUpstream, output: str) -> generation_pb2.Generation:
    """A run of a model whose output is this JSON."""
    scripted.models = {RAW: {"owner": "someone", "name": "anything", "is_official": True}}
    scripted.creates = [says(body(output=f"={output}"), 201)]
    answer = await stubs.models.RunModel(run_model_request(RAW))
    return answer.generation


@pytest.mark.parametrize(
    ("output", "value", "exact"),
    [
        ("9007199254740992", 2**53, ""),
        ("-9007199254740992", -(2**53), ""),
        ("9007199254740993", "9007199254740993", "9007199254740993"),
        ("18446744073709551617", "18446744073709551617", "18446744073709551617"),
        (
            '{"n": [1, -9223372036854775809], "u": "data:text/plain;base64,aGk="}',
            {"n": [1, "-9223372036854775809"], "u": "media:0"},
            '{"n": [1, -9223372036854775809], "u": "media:0"}',
        ),
        (NINES, NINES, NINES),
        ("9" * 5_000, "9" * 5_000, ""),
        ("[NaN, Infinity, -Infinity, 1e400]", ["NaN", "Infinity", "-Infinity", "1e400"], ""),
        ('{"a\\u0000": "\\ud800", "": 0.5}', {"a\0": "\ufffd", "": 0.5}, ""),
    ],
)
async def test_numbers_in_outputs_are_exact_or_strings(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, output: str, value: Any, exact: str
) -> None:
    """No integer becomes another one, and what is no number of a message is told as it was."""
    generation = await run(stubs, scripted_upstream, output)
    assert generation.state == State.STATE_SUCCEEDED
    assert MessageToDict(generation.raw.value) == value
    assert generation.raw.exact_json == exact
    assert (await get_generation(stubs, generation.id)).raw == generation.raw
    await check_lists(stubs)


@pytest.mark.parametrize("levels", [25, 100])
async def test_deep_outputs_are_returned_exactly(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, levels: int
) -> None:
    """What is too deep for messages is JSON in a text, and all of it in one."""
    nested = "[" * levels + "]" * levels
    generation = await run(stubs, scripted_upstream, nested)
    assert generation.raw.exact_json == nested
    await check_lists(stubs)


@pytest.mark.parametrize("levels", [101, 990, 1_025, 20_000])
async def test_too_deep_outputs_are_charged_and_invalid(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, levels: int
) -> None:
    """The same at every depth, whatever parsers there are. What is larger is kept as a document."""
    generations = [await run(stubs, scripted_upstream, '{"a":' * levels + "1" + "}" * levels)]
    scripted_upstream.creates = [says(body(output="=" + "[" * levels + "]" * levels), 201)]
    generations.append(await text(stubs))
    for generation in generations:
        assert generation.state == State.STATE_FAILED
        assert b"OUTPUT_INVALID" in generation.error.SerializeToString()
    charges = await stubs.usage.ListCharges(usage_pb2.ListChargesRequest())
    assert [charge.cost.usd_nanos for charge in charges.charges] == [COST, 0]
    await check_lists(stubs)


@pytest.mark.parametrize("number", [2.0**53, -(2.0**53), 2.0**60, 1e300, 2.0**53 + 1])
async def test_integers_beyond_a_struct_are_refused_by_field(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, number: float
) -> None:
    """2^53 + 1 arrives as 2^53: which one was meant nobody can tell, and nothing is sent."""
    scripted_upstream.models = {RAW: {"owner": "someone", "name": "anything", "is_official": True}}
    given = Struct()
    given.update({"seed": number, "list": [{"n": number}], "fine": 2**53 - 1})
    error = await rpc_error(stubs.models.RunModel(run_model_request(RAW, input=given)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert sorted(fields_of(error)) == ["input.list[0].n", "input.seed"]
    parameters = Struct()
    parameters.update({"seed": number})
    error = await rpc_error(
        stubs.text.GenerateText(text_request(prompt="x", model_parameters=parameters))
    )
    assert sorted(fields_of(error)) == ["options.model_parameters.seed"]
    assert not scripted_upstream.posted


async def test_exact_integers_are_sent_exactly(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """In a Struct up to 2^53 - 1, as a text whatever they are, in a field of their own 64 bits."""
    scripted_upstream.models = {RAW: {"owner": "someone", "name": "anything", "is_official": True}}
    scripted_upstream.creates = [says(body(), 201)]
    given = Struct()
    given.update({"a": 2**53 - 1, "b": -(2**53) + 1, "c": "9007199254740993", "d": 0.5})
    await stubs.models.RunModel(run_model_request(RAW, input=given))
    assert scripted_upstream.posted[0]["input"] == {
        "a": 2**53 - 1,
        "b": -(2**53) + 1,
        "c": "9007199254740993",
        "d": 0.5,
    }
    answer = await stubs.image.GenerateImage(
        image_request(prompt="x", seed=2**53 + 1, model="flux-dev")
    )
    assert scripted_upstream.posted[1]["input"]["seed"] == 2**53 + 1
    assert answer.generation.seed == 2**53 + 1


async def test_a_budget_saturates_at_64_bits(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """Costs at the edge, one after another: the sum stays at the most, and nobody fails."""
    metrics = {"input_token_count": 0, "output_token_count": 3 * 10**15}
    scripted_upstream.creates = [says(body(metrics=metrics), 201)]
    shadow = Budget(name="all", period="total", limit_usd=Decimal(1), shadow=True)
    boss = tenant("boss", admin=True, budgets=(shadow,))
    async with (
        open_server(scripted_upstream.url, tenants=(boss,)) as (_, server),
        channel_of(server.grpc_address, "boss") as channel,
    ):
        stubs = Stubs.on(channel)
        for _ in range(3):
            assert (await text(stubs)).cost.usd_nanos == 3 * 10**15 * 2750
        response = await stubs.admin.ListTenants(admin_pb2.ListTenantsRequest())
        assert response.tenants[0].budgets[0].spent_usd_nanos == 2**63 - 1
        await check_lists(stubs)
