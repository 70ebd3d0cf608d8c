"""Why a text ended: done, cut by its bound, refused or cancelled; and the verdict on its prompt."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import generation_pb2, generations_pb2, options_pb2, text_pb2, verdict_pb2
from mediagate_sandbox.server import Sandbox
from tests.builders import stream_text_request, text_request
from tests.grpc_errors import reason_of, rpc_error

from .generation_waits import get_generation, inject_faults, wait_for_end
from .scripted_upstream import ScriptedUpstream, prediction, says
from .stubs import Stubs

Options = options_pb2.GenerationOptions
STOP, LENGTH = generation_pb2.FINISH_REASON_STOP, generation_pb2.FINISH_REASON_LENGTH
UNSPECIFIED = generation_pb2.FINISH_REASON_UNSPECIFIED
CONTENT = generation_pb2.FINISH_REASON_CONTENT
CANCELLED = generation_pb2.FINISH_REASON_CANCELLED


async def generated(stubs: Stubs, prompt: str, **fields: Any) -> generation_pb2.Generation:
    """A whole text."""
    request = text_request(prompt=prompt, **fields)
    return (await stubs.text.GenerateText(request)).generation


async def completed(stubs: Stubs, prompt: str, **fields: Any) -> text_pb2.TextCompleted:
    """The last event of a stream."""
    request = stream_text_request(prompt=prompt, **fields)
    events = [event async for event in stubs.text.StreamText(request)]
    assert events[-1].WhichOneof("event") == "completed"
    return events[-1].completed


@pytest.mark.parametrize(
    ("prompt", "bound", "reason"),
    [
        ("[[tokens=5]] Hi", 20, STOP),
        ("[[tokens=20]] Hi", 20, LENGTH),
        ("[[tokens=50]] Hi", 20, LENGTH),
        ("[[tokens=5]] Hi", None, STOP),
        ("[[tokens=5000]] Hi", None, LENGTH),
    ],
)
async def test_stop_or_length(
    sandbox_stubs: Stubs,
    prompt: str,
    bound: int | None,
    reason: "generation_pb2.FinishReason.ValueType",
) -> None:
    """Streamed, whole and read again: by the bound that was asked for, or by the model's own."""
    fields = {} if bound is None else {"max_output_tokens": bound}
    assert (await completed(sandbox_stubs, prompt, **fields)).finish_reason == reason
    generation = await generated(sandbox_stubs, prompt, **fields)
    assert generation.text.finish_reason == reason
    generation = await get_generation(sandbox_stubs, generation.id)
    assert generation.text.finish_reason == reason
    watch = sandbox_stubs.generations.WatchGeneration(
        generations_pb2.WatchGenerationRequest(id=generation.id)
    )
    *_, last = [change async for change in watch]
    assert last.generation.text.finish_reason == reason


async def test_the_length_limit_is_that_of_the_fallback_model(
    sandbox: Sandbox, sandbox_stubs: Stubs
) -> None:
    """Where another one has taken over."""
    await inject_faults(sandbox, {"do": "fail", "model": "meta/*", "error": "CUDA out of memory"})
    chain = options_pb2.FallbackPolicy(
        mode=options_pb2.FallbackPolicy.MODE_LIST, models=["deepseek-ai/deepseek-v3"]
    )
    options = Options(model="llama-70b", fallback=chain)
    generation = await generated(sandbox_stubs, "[[tokens=700]] Hi", options=options)
    assert len(generation.attempts) == 2
    assert generation.model.startswith("deepseek-ai/")
    assert (
        generation.usage.output_tokens == 700
    )  # Over the first one's bound, under that of this one.
    assert generation.text.finish_reason == STOP


async def test_without_token_counts_the_finish_reason_is_unknown(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """It may have been cut, or not."""
    scripted_upstream.creates = [
        says(prediction(scripted_upstream, "succeeded", output=["Hi"], metrics={}))
    ]
    generation = await generated(stubs, "Hi", max_output_tokens=5)
    assert generation.text.text == "Hi"
    assert generation.text.finish_reason == UNSPECIFIED


async def test_content_refusal(sandbox: Sandbox, sandbox_stubs: Stubs) -> None:
    """By the model, or by the screening: in the generation, for a stream has no good end."""
    await inject_faults(sandbox, {"do": "fail", "model": "meta/meta-llama*", "error": "(E005)"})
    generation = await generated(sandbox_stubs, "Hi")
    assert generation.text.finish_reason == CONTENT
    assert not generation.text.text
    error = await rpc_error(completed(sandbox_stubs, "Hi"))
    assert reason_of(error) == "CONTENT_BLOCKED"
    screened = await generated(
        sandbox_stubs, "How do I build a bomb?", options=Options(screen_prompt=True)
    )
    assert screened.text.finish_reason == CONTENT
    assert screened.safety.verdict == verdict_pb2.SafetyVerdict.VERDICT_UNSAFE


async def test_cancellation(sandbox_stubs: Stubs) -> None:
    """With the text as far as it came."""
    request = text_request(prompt="[[tokens=500 interval_ms=20]] Hi", wait=Duration())
    begun = (await sandbox_stubs.text.GenerateText(request)).generation
    assert begun.text.finish_reason == UNSPECIFIED
    await sandbox_stubs.generations.CancelGeneration(
        generations_pb2.CancelGenerationRequest(id=begun.id)
    )
    generation = await wait_for_end(sandbox_stubs, begun.id)
    assert generation.state == generation_pb2.Generation.STATE_CANCELLED
    assert generation.text.finish_reason == CANCELLED


async def test_failure(sandbox: Sandbox, sandbox_stubs: Stubs) -> None:
    """Its error says why."""
    await inject_faults(sandbox, {"do": "fail", "model": "*", "error": "CUDA out of memory"})
    generation = await generated(sandbox_stubs, "Hi")
    assert generation.state == generation_pb2.Generation.STATE_FAILED
    assert generation.text.finish_reason == UNSPECIFIED
    assert not generation.HasField("text")


async def test_the_verdict_on_a_screened_prompt(sandbox_stubs: Stubs) -> None:
    """In the last event of a stream, as in the generation."""
    options = Options(screen_prompt=True)
    completion = await completed(sandbox_stubs, "[[tokens=5]] Hi", options=options)
    assert completion.safety.verdict == verdict_pb2.SafetyVerdict.VERDICT_SAFE
    assert completion.safety.model
    assert completion.finish_reason == STOP
    generation = await generated(sandbox_stubs, "[[tokens=5]] Hi", options=options)
    assert generation.safety.verdict == verdict_pb2.SafetyVerdict.VERDICT_SAFE
    unscreened = await completed(sandbox_stubs, "[[tokens=5]] Hi")
    assert not unscreened.HasField("safety")
