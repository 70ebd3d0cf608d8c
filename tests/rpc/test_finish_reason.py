"""Why a text ended: done, cut by its bound, refused or cancelled; and the verdict on its prompt."""

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import (
    generation_pb2,
    generations_pb2,
    options_pb2,
    text_pb2,
    verdict_pb2,
)
from mediagate_sandbox.server import Sandbox

from .generation_waits import ended, order
from .grpc_errors import reason_of
from .scripted_upstream import ScriptedUpstream, prediction, says
from .stubs import Stubs

Options = options_pb2.GenerationOptions
STOP, LENGTH = generation_pb2.FINISH_REASON_STOP, generation_pb2.FINISH_REASON_LENGTH
UNSPECIFIED = generation_pb2.FINISH_REASON_UNSPECIFIED
CONTENT = generation_pb2.FINISH_REASON_CONTENT
CANCELLED = generation_pb2.FINISH_REASON_CANCELLED


async def generated(stubs: Stubs, prompt: str, **fields: Any) -> generation_pb2.Generation:
    """A whole text."""
    request = text_pb2.GenerateTextRequest(prompt=prompt, **fields)
    return (await stubs.text.GenerateText(request)).generation


async def completed(stubs: Stubs, prompt: str, **fields: Any) -> text_pb2.TextCompleted:
    """The last event of a stream."""
    request = text_pb2.StreamTextRequest(prompt=prompt, **fields)
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
async def test_done_or_cut(
    sandbox_stubs: Stubs,
    prompt: str,
    bound: int | None,
    reason: "generation_pb2.FinishReason.ValueType",
) -> None:
    """Streamed, whole and read again: by the bound that was asked for, or by the model's own."""
    fields = {} if bound is None else {"max_output_tokens": bound}
    assert (await completed(sandbox_stubs, prompt, **fields)).finish_reason == reason
    made = await generated(sandbox_stubs, prompt, **fields)
    assert made.text.finish_reason == reason
    read = await sandbox_stubs.generations.GetGeneration(
        generations_pb2.GetGenerationRequest(id=made.id)
    )
    assert read.generation.text.finish_reason == reason
    watch = sandbox_stubs.generations.WatchGeneration(
        generations_pb2.WatchGenerationRequest(id=made.id)
    )
    *_, last = [change async for change in watch]
    assert last.generation.text.finish_reason == reason


async def test_the_bound_is_that_of_the_model_that_made_it(
    sandbox: Sandbox, sandbox_stubs: Stubs
) -> None:
    """Where another one has taken over."""
    await order(sandbox, {"do": "fail", "model": "meta/*", "error": "CUDA out of memory"})
    chain = options_pb2.FallbackPolicy(
        mode=options_pb2.FallbackPolicy.MODE_LIST, models=["deepseek-ai/deepseek-v3"]
    )
    options = Options(model="llama-70b", fallback=chain)
    made = await generated(sandbox_stubs, "[[tokens=700]] Hi", options=options)
    assert len(made.attempts) == 2
    assert made.model.startswith("deepseek-ai/")
    assert made.usage.output_tokens == 700  # Over the first one's bound, under that of this one.
    assert made.text.finish_reason == STOP


async def test_not_counted_is_not_known(scripted_upstream: ScriptedUpstream, stubs: Stubs) -> None:
    """It may have been cut, or not."""
    scripted_upstream.creates = [
        says(prediction(scripted_upstream, "succeeded", output=["Hi"], metrics={}))
    ]
    made = await generated(stubs, "Hi", max_output_tokens=5)
    assert made.text.text == "Hi"
    assert made.text.finish_reason == UNSPECIFIED


async def test_refused(sandbox: Sandbox, sandbox_stubs: Stubs) -> None:
    """By the model, or by the screening: in the generation, for a stream has no good end."""
    await order(sandbox, {"do": "fail", "model": "meta/meta-llama*", "error": "(E005)"})
    made = await generated(sandbox_stubs, "Hi")
    assert made.text.finish_reason == CONTENT
    assert not made.text.text
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await completed(sandbox_stubs, "Hi")
    assert reason_of(caught.value) == "CONTENT_BLOCKED"
    screened = await generated(
        sandbox_stubs, "How do I build a bomb?", options=Options(screen_prompt=True)
    )
    assert screened.text.finish_reason == CONTENT
    assert screened.safety.verdict == verdict_pb2.SafetyVerdict.VERDICT_UNSAFE


async def test_cancelled(sandbox_stubs: Stubs) -> None:
    """With the text as far as it came."""
    request = text_pb2.GenerateTextRequest(
        prompt="[[tokens=500 interval_ms=20]] Hi", wait=Duration()
    )
    begun = (await sandbox_stubs.text.GenerateText(request)).generation
    assert begun.text.finish_reason == UNSPECIFIED
    await sandbox_stubs.generations.CancelGeneration(
        generations_pb2.CancelGenerationRequest(id=begun.id)
    )
    made = await ended(sandbox_stubs, begun.id)
    assert made.state == generation_pb2.Generation.STATE_CANCELLED
    assert made.text.finish_reason == CANCELLED


async def test_broken(sandbox: Sandbox, sandbox_stubs: Stubs) -> None:
    """Its error says why."""
    await order(sandbox, {"do": "fail", "model": "*", "error": "CUDA out of memory"})
    made = await generated(sandbox_stubs, "Hi")
    assert made.state == generation_pb2.Generation.STATE_FAILED
    assert made.text.finish_reason == UNSPECIFIED
    assert not made.HasField("text")


async def test_the_verdict_on_a_screened_prompt(sandbox_stubs: Stubs) -> None:
    """In the last event of a stream, as in the generation."""
    options = Options(screen_prompt=True)
    told = await completed(sandbox_stubs, "[[tokens=5]] Hi", options=options)
    assert told.safety.verdict == verdict_pb2.SafetyVerdict.VERDICT_SAFE
    assert told.safety.model
    assert told.finish_reason == STOP
    made = await generated(sandbox_stubs, "[[tokens=5]] Hi", options=options)
    assert made.safety.verdict == verdict_pb2.SafetyVerdict.VERDICT_SAFE
    unscreened = await completed(sandbox_stubs, "[[tokens=5]] Hi")
    assert not unscreened.HasField("safety")
