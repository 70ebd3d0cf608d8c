"""CheckSafety through the whole server: verdicts, their cost, and failures that are no verdicts."""

from typing import Any

import grpc
import pytest

from mediagate.v1 import (
    cost_pb2,
    generation_pb2,
    generations_pb2,
    medium_pb2,
    modality_pb2,
    options_pb2,
    safety_pb2,
    text_pb2,
    verdict_pb2,
)
from tests.grpc_errors import fields_of, reason_of, rpc_error

from .scripted_upstream import ID, ScriptedUpstream, says
from .stubs import Stubs

Check = safety_pb2.CheckSafetyRequest
Options = options_pb2.GenerationOptions
Verdict = verdict_pb2.SafetyVerdict
Turn = text_pb2.ChatMessage
SAFE, UNSAFE = Verdict.VERDICT_SAFE, Verdict.VERDICT_UNSAFE


def turn(role: Turn.Role.ValueType, text: str) -> Turn:
    """One turn of a conversation."""
    return Turn(role=role, parts=[text_pb2.ChatPart(text=text)])


@pytest.mark.parametrize(
    ("request_", "verdict", "codes"),
    [
        (Check(content="How do I bake bread?"), SAFE, []),
        (Check(content="How do I build a bomb?"), UNSAFE, ["S9"]),
        (Check(content="Fine. [[unsafe=S1,S10]]"), UNSAFE, ["S1", "S10"]),
        (Check(content="Sure, launder money.", role=Turn.ROLE_ASSISTANT), UNSAFE, ["S2"]),
        (Check(content="No.", role=Turn.ROLE_ASSISTANT, context="Build a bomb?"), SAFE, []),
        (
            Check(
                messages=[
                    turn(Turn.ROLE_USER, "build a bomb"),
                    turn(Turn.ROLE_ASSISTANT, "I will not help with that."),
                ]
            ),
            SAFE,
            [],
        ),
        (Check(messages=[turn(Turn.ROLE_USER, "build a bomb")]), UNSAFE, ["S9"]),
    ],
)
async def test_verdicts_of_the_sandbox(
    sandbox_stubs: Stubs, request_: Check, verdict: Verdict.Verdict.ValueType, codes: list[str]
) -> None:
    """The turn that is to be judged is the one that is."""
    answer = await sandbox_stubs.safety.CheckSafety(request_)
    assert answer.generation.state == generation_pb2.Generation.STATE_SUCCEEDED
    assert answer.verdict == answer.generation.safety
    assert answer.verdict.verdict == verdict
    assert [category.code for category in answer.verdict.categories] == codes
    assert all(category.name for category in answer.verdict.categories)
    assert answer.verdict.model == "meta/llama-guard-3-8b"
    assert not answer.verdict.HasField("confidence")
    assert not answer.verdict.unreadable


@pytest.mark.parametrize(
    ("output", "verdict", "codes", "unreadable"),
    [
        ("unsafe\nS1,S10", UNSAFE, ["S1", "S10"], False),
        ("unsafe", UNSAFE, [], False),
        ("safe", SAFE, [], False),
        ("Safe.", UNSAFE, [], True),
        ("unsafe\nS99", UNSAFE, [], True),
        ("", UNSAFE, [], True),
        (None, UNSAFE, [], True),
        (["un", "safe", "\nS", "5"], UNSAFE, ["S5"], False),
        (["\n\n", "safe"], SAFE, [], False),
        ("This message is safe.", UNSAFE, [], True),
    ],
)
async def test_unreadable_verdicts(
    scripted_upstream: ScriptedUpstream,
    stubs: Stubs,
    output: Any,
    verdict: Verdict.Verdict.ValueType,
    codes: list[str],
    unreadable: bool,
) -> None:
    """What cannot be read never passes as safe; the run is metered all the same."""
    done = {"id": ID, "status": "succeeded", "output": output, "metrics": {"predict_time": 0.25}}
    scripted_upstream.creates = [says(done, 201)]
    answer = await stubs.safety.CheckSafety(Check(content="Hello"))
    assert answer.verdict.verdict == verdict
    assert [category.code for category in answer.verdict.categories] == codes
    assert answer.verdict.unreadable is unreadable
    assert answer.generation.cost.usd_nanos == 243_750
    assert answer.generation.cost.state == cost_pb2.COST_STATE_ASSUMED
    assert scripted_upstream.posted[0]["input"] == {"prompt": "Hello"}


async def test_a_failed_run_has_no_verdict(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Neither safe nor unsafe: nobody looked."""
    scripted_upstream.creates = [says({"id": ID, "status": "failed", "error": "safe"}, 201)]
    answer = await stubs.safety.CheckSafety(Check(content="Hello"))
    assert answer.generation.state == generation_pb2.Generation.STATE_FAILED
    assert not answer.HasField("verdict")
    assert not answer.generation.HasField("safety")


async def test_a_verdict_is_stored_with_its_generation(sandbox_stubs: Stubs) -> None:
    """It can be read and listed later, and a repeat with the same request_id gets it again."""
    name = "6f7a3c1e-0000-4000-8000-000000000001"
    first = await sandbox_stubs.safety.CheckSafety(Check(request_id=name, content="build a bomb"))
    again = await sandbox_stubs.safety.CheckSafety(Check(request_id=name, content="build a bomb"))
    assert again.replayed
    assert again.verdict == first.verdict
    listed = await sandbox_stubs.generations.ListGenerations(
        generations_pb2.ListGenerationsRequest(
            filter=generations_pb2.GenerationFilter(modality=modality_pb2.MODALITY_SAFETY)
        )
    )
    (generation,) = listed.generations
    assert generation.safety == first.verdict
    assert generation.WhichOneof("output") is None
    assert generation.modality == modality_pb2.MODALITY_SAFETY


@pytest.mark.parametrize(
    ("request_", "code", "reason", "field"),
    [
        (Check(), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "content"),
        (Check(content=" "), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "content"),
        (
            Check(content="x" * 100_001),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_REQUEST",
            "content",
        ),
        (
            Check(messages=[turn(Turn.ROLE_SYSTEM, "x")]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_REQUEST",
            "messages[0].role",
        ),
        (
            Check(messages=[turn(Turn.ROLE_USER, "x")], role=Turn.ROLE_USER),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_REQUEST",
            "role",
        ),
        (
            Check(messages=[turn(Turn.ROLE_USER, "x")], context="y"),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_REQUEST",
            "context",
        ),
        (
            Check(content="x", options=Options(model="llama-70b")),
            grpc.StatusCode.NOT_FOUND,
            "MODEL_NOT_FOUND",
            "options.model",
        ),
        (
            Check(
                messages=[
                    Turn(
                        role=Turn.ROLE_USER,
                        parts=[
                            text_pb2.ChatPart(
                                image=medium_pb2.MediaInput(uri="https://example.com/a.png")
                            )
                        ],
                    )
                ]
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
            "PARAMETER_UNSUPPORTED",
            "messages[0].parts[0].image",
        ),
    ],
)
async def test_inputs_that_cannot_be_judged_are_refused_by_field(
    scripted_upstream: ScriptedUpstream,
    stubs: Stubs,
    request_: Check,
    code: grpc.StatusCode,
    reason: str,
    field: str,
) -> None:
    """Before anything is sent."""
    error = await rpc_error(stubs.safety.CheckSafety(request_))
    assert (error.code(), reason_of(error)) == (code, reason)
    assert field in fields_of(error)
    assert scripted_upstream.posted == []


async def test_validate_only_spends_nothing(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """The plan and its cost, and no verdict."""
    answer = await stubs.safety.CheckSafety(Check(content="Hello", validate_only=True))
    assert answer.plan.model == "meta/llama-guard-3-8b"
    assert answer.plan.cost.expected_usd_nanos > 0
    assert not answer.HasField("verdict")
    assert not answer.HasField("generation")
    assert scripted_upstream.posted == []
