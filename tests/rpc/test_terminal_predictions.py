"""Bodies of predictions as users of other clients have met them: typed ends, and nothing before."""

from typing import Any

import pytest

from mediagate.v1 import cost_pb2, generation_pb2, options_pb2, text_pb2
from mediagate_sandbox.files import render_file
from mediagate_sandbox.generators.spec import ImageRecipe
from tests.builders import image_request, stream_text_request, text_request
from tests.media.file_server import file

from .scripted_upstream import ID, ScriptedUpstream, says
from .stubs import Stubs

State = generation_pb2.Generation
Options = options_pb2.GenerationOptions
ALONE = options_pb2.FallbackPolicy(mode=options_pb2.FallbackPolicy.MODE_NONE)
PICTURE = render_file(ImageRecipe("a/b", "x", 1, 64, 64, "png"))
TOKENS = {"input_token_count": 12, "output_token_count": 34}


def text() -> text_pb2.GenerateTextRequest:
    """A text of one model."""
    return text_request(prompt="x", model="llama-70b", fallback=ALONE)


@pytest.mark.parametrize(
    ("body", "state", "attempt", "cost"),
    [
        (
            {"status": "succeeded", "output": "hello world", "metrics": None, "urls": {}},
            State.STATE_SUCCEEDED,
            generation_pb2.Attempt.STATE_SUCCEEDED,
            None,
        ),
        (
            {"status": "succeeded", "output": ["hello", " world"], "metrics": TOKENS, "logs": None},
            State.STATE_SUCCEEDED,
            generation_pb2.Attempt.STATE_SUCCEEDED,
            12 * 650 + 34 * 2750,
        ),
        (
            {"status": "failed", "output": [], "error": "CUDA", "metrics": TOKENS},
            State.STATE_FAILED,
            generation_pb2.Attempt.STATE_FAILED,
            12 * 650 + 34 * 2750,
        ),
        (
            {"status": "failed", "output": None, "error": {"detail": "x"}, "metrics": None},
            State.STATE_FAILED,
            generation_pb2.Attempt.STATE_FAILED,
            None,
        ),
        (
            {"status": "aborted", "output": None, "metrics": None, "urls": None},
            State.STATE_CANCELLED,
            generation_pb2.Attempt.STATE_ABORTED,
            0,
        ),
        (
            {"status": "canceled", "output": None, "metrics": TOKENS},
            State.STATE_CANCELLED,
            generation_pb2.Attempt.STATE_CANCELLED,
            12 * 650 + 34 * 2750,
        ),
    ],
)
async def test_terminal_predictions_under_every_http_status(
    scripted_upstream: ScriptedUpstream,
    stubs: Stubs,
    body: dict[str, Any],
    state: int,
    attempt: int,
    cost: int | None,
) -> None:
    """A failed run under HTTP 200 is none that succeeded; what is null or absent is tolerated."""
    for status in (200, 201, 202):
        scripted_upstream.creates = [says({"id": ID, **body}, status)]
        generation = (await stubs.text.GenerateText(text())).generation
        assert (generation.state, generation.attempts[0].state) == (state, attempt)
        assert generation.text.text == ("hello world" if state == State.STATE_SUCCEEDED else "")
        if cost is None:
            assert generation.cost.state == cost_pb2.COST_STATE_UNKNOWN
        else:
            assert (generation.cost.usd_nanos, generation.cost.state) == (
                cost,
                cost_pb2.COST_STATE_SETTLED,
            )
    assert len(scripted_upstream.posted) == 3


@pytest.mark.parametrize("begins", ["starting", "processing", "booting", "queued"])
async def test_a_null_output_before_the_end_is_no_output(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, begins: str
) -> None:
    """`output: null` while it starts, under a status of today or of tomorrow, and a list later."""
    begun = {"id": ID, "status": begins, "output": None, "metrics": None, "urls": None}
    scripted_upstream.creates = [says(begun, 201)]
    scripted_upstream.gets = [
        says(begun),
        says({**begun, "output": ["hello"]}),
        says({"id": ID, "status": "succeeded", "output": ["hello", " world"], "metrics": TOKENS}),
    ]
    request = stream_text_request(prompt="x", model="llama-70b")
    deltas = [event.delta.text async for event in stubs.text.StreamText(request)]
    assert "".join(deltas) == "hello world"


async def test_a_string_output_is_one_piece(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Not as many pieces as it has letters."""
    done = {"id": ID, "status": "succeeded", "output": "hello world", "metrics": TOKENS}
    scripted_upstream.creates = [says(done, 201)]
    deltas = [
        event.delta.text
        async for event in stubs.text.StreamText(stream_text_request(prompt="x"))
        if event.delta.text
    ]
    assert deltas == ["hello world"]


async def test_one_of_several_runs_has_no_output(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """It is named as missing with its own reason, and its cost is not known."""
    link = scripted_upstream.files.put("/a.png", file(PICTURE))
    done = {"id": ID, "status": "succeeded", "output": [link], "metrics": {"image_count": 1}}
    scripted_upstream.creates = [
        says(done, 201),
        says({**done, "output": [None], "metrics": {}}, 201),
    ]
    answer = await stubs.image.GenerateImage(
        image_request(prompt="x", count=2, model="flux-pro", fallback=ALONE)
    )
    generation = answer.generation
    assert generation.state == State.STATE_SUCCEEDED
    (missing,) = generation.partial.missing
    assert [bool(medium.sha256) for medium in generation.images.images] == [
        index != missing.index for index in range(2)
    ]
    assert "lost" in missing.error.message
    assert generation.cost.state == cost_pb2.COST_STATE_UNKNOWN
