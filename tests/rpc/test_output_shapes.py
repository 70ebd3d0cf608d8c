"""A run that succeeded is paid: whatever shape its answer has, the output or that it is lost.

Never a failure of the model, and never free where upstream does not say so.
"""

import base64
import json
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from mediagate.v1 import cost_pb2, generation_pb2, generations_pb2, options_pb2
from mediagate_sandbox.files import render_file
from mediagate_sandbox.generators.spec import ImageRecipe, VideoRecipe
from tests.builders import (
    audio_request,
    image_request,
    run_model_request,
    stream_text_request,
    text_request,
    video_request,
)
from tests.grpc_errors import reason_of, rpc_error
from tests.media.file_server import file

from .media_transfers import read_output
from .scripted_upstream import ID, ScriptedUpstream, prediction, says, streams, token
from .stubs import Stubs

State = generation_pb2.Generation
Options = options_pb2.GenerationOptions
PICTURE = render_file(ImageRecipe("a/b", "x", 1, 64, 64, "png"))
FILM = render_file(VideoRecipe("a/b", "x", 1, 64, 64, 1.0, 8))
SOUND = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(32)
TOKENS = {"input_token_count": 12, "output_token_count": 34}
ALL = generations_pb2.ListGenerationsRequest(page_size=100)
WAIT = Duration(seconds=30)
UNKNOWN, SETTLED = cost_pb2.COST_STATE_UNKNOWN, cost_pb2.COST_STATE_SETTLED


def ends(scripted: ScriptedUpstream, output: Any, **fields: Any) -> None:
    """Every create ends at once as a success with this output, and without metrics."""
    done = {"id": ID, "status": "succeeded", "output": output, "metrics": {}, **fields}
    scripted.creates = [says(done, 201)]


async def pictures(stubs: Stubs, count: int = 1) -> generation_pb2.Generation:
    """So many in one run of a model that is billed by the picture."""
    answer = await stubs.image.GenerateImage(
        image_request(prompt="x", count=count, model="flux-dev")
    )
    return answer.generation


def check_lost(generation: generation_pb2.Generation, output: Any) -> None:
    """It says that the output is lost, not that the model failed."""
    info = error_details_pb2.ErrorInfo()
    assert generation.state == State.STATE_FAILED, output
    assert generation.error.code == grpc.StatusCode.DATA_LOSS.value[0]
    assert generation.error.details[0].Unpack(info)
    assert info.reason == "OUTPUT_LOST", output
    assert "failed" not in generation.error.message
    assert "cut" not in generation.error.message


async def test_images_in_every_shape_are_archived(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """And paid by their number where upstream reports none."""
    a = scripted_upstream.files.put("/a", file(PICTURE))
    b = scripted_upstream.files.put("/b.png", file(PICTURE))
    shapes: list[tuple[Any, int]] = [
        ({"images": [a, b]}, 2),
        ([{"url": a}, {"url": b}], 2),
        ([[a, b]], 2),
        ([[a], [b]], 2),
        (a, 1),
        ({"output": {"image": {"uri": a, "width": 64}}, "seed": 7}, 1),
        ({"images": [{"url": a, "content_type": "image/png"}], "prompt": "x"}, 1),
        ({"file": a, "logs_url": None}, 1),
        (json.dumps([a]), 1),
    ]
    for output, number in shapes:
        ends(scripted_upstream, output)
        generation = await pictures(stubs, number)
        assert generation.state == State.STATE_SUCCEEDED, output
        assert [medium.sha256 != "" for medium in generation.images.images] == [True] * number, (
            output
        )
        assert not generation.HasField("partial"), output
        assert (generation.cost.usd_nanos, generation.cost.state) == (
            number * 25_000_000,
            SETTLED,
        ), output


@pytest.mark.parametrize("metrics", [{}, {"image_output_count": 1}])
async def test_missing_images_fail_with_output_lost(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, metrics: dict[str, Any]
) -> None:
    """What it cost is what upstream says was made, else unknown; the model did not fail."""
    shapes: list[Any] = [None, [], {}, [None], {"images": []}, "I cannot draw.", [{"url": None}]]
    for output in shapes:
        for removed in (True, False):
            ends(scripted_upstream, output, data_removed=removed, metrics=metrics)
            check_lost(await pictures(stubs), output)
    listed = await stubs.generations.ListGenerations(ALL)
    assert len(listed.generations) == 14
    for generation in listed.generations:
        assert generation.attempts[0].state == generation_pb2.Attempt.STATE_SUCCEEDED
        if metrics:
            assert (generation.cost.usd_nanos, generation.cost.state) == (25_000_000, SETTLED)
        else:
            assert (generation.cost.HasField("usd_nanos"), generation.cost.state) == (
                False,
                UNKNOWN,
            )


async def test_fewer_images_than_requested(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """A partial success names those that are missing, and the others stay where they are."""
    a, b = (scripted_upstream.files.put(path, file(PICTURE)) for path in ("/a.png", "/b.png"))
    for output, there in (
        ([a, b], [0, 1]),
        ([a, None, b], [0, 2]),
        ([None, a], [1]),
        ([{"url": a}, {"error": "filtered"}, {"url": b}], [0, 2]),
        ({"images": [None, None, None, a]}, [3]),
        ({"images": ["", a, "NSFW"]}, [1]),
    ):
        ends(scripted_upstream, output)
        generation = await pictures(stubs, 4)
        assert generation.state == State.STATE_SUCCEEDED
        assert [i for i, medium in enumerate(generation.images.images) if medium.sha256] == there, (
            output
        )
        assert len(generation.images.images) == 4
        missing = {output.index: output.error for output in generation.partial.missing}
        assert sorted(missing) == [i for i in range(4) if i not in there], output
        assert all(error.code == grpc.StatusCode.DATA_LOSS.value[0] for error in missing.values())
        assert generation.cost.usd_nanos == len(there) * 25_000_000
        content = (await read_output(stubs, generation.id, index=there[-1]))[1]
        assert content == PICTURE


async def test_large_responses_are_treated_alike(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Beyond what is decoded where it arrives: the same media, gaps and losses."""
    a = scripted_upstream.files.put("/a", file(PICTURE))
    padding = {"notes": "x" * 300_000}
    ends(scripted_upstream, {"images": [{"url": a}], **padding})
    generation = await pictures(stubs, 2)
    assert [bool(medium.sha256) for medium in generation.images.images] == [True, False]
    assert [output.index for output in generation.partial.missing] == [1]
    assert generation.cost.usd_nanos == 25_000_000
    ends(scripted_upstream, {"images": [], **padding})
    check_lost(await pictures(stubs), "large")
    content = PICTURE + bytes(600_000)
    bare = base64.b64encode(content).decode()
    for output in ({"b64_json": bare}, bare, [None, {"image": bare, **padding}]):
        ends(scripted_upstream, output)
        generation = await pictures(stubs, 2)
        there = next(at for at, medium in enumerate(generation.images.images) if medium.sha256)
        assert (await read_output(stubs, generation.id, index=there))[1] == content
        assert there == (1 if isinstance(output, list) else 0)
        assert generation.cost.usd_nanos == 25_000_000
    ends(scripted_upstream, {"b64_json": base64.b64encode(PICTURE).decode()})
    generation = await pictures(stubs)
    assert (await read_output(stubs, generation.id))[1] == PICTURE
    ends(scripted_upstream, {"text": "word " * 80_000}, metrics=TOKENS)
    answer = await stubs.text.GenerateText(text_request(prompt="x"))
    assert answer.generation.text.text.startswith("word word")
    assert answer.generation.text.document.size_bytes == 400_000


async def test_video_and_audio_in_other_shapes(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """The one that was asked for, by what the files are; the others beside it."""
    film, thumb = (
        scripted_upstream.files.put("/film", file(FILM)),
        scripted_upstream.files.put("/t", file(PICTURE)),
    )
    films: list[Any] = [[thumb, film], {"thumbnail": thumb, "video": film}, [[thumb], film]]
    for output in films:
        ends(scripted_upstream, output)
        answer = await stubs.video.GenerateVideo(video_request(prompt="x", wait=WAIT))
        video = answer.generation.video
        assert video.video.media_type == "video/mp4", output
        assert [medium.media_type for medium in video.other_media] == ["image/png"], output
        name, _, index = video.video.id.partition("/")
        assert (await read_output(stubs, name, index=int(index)))[1] == FILM
    sound = scripted_upstream.files.put("/s", file(SOUND))
    sounds: list[tuple[Any, int]] = [
        ({"vocals": sound, "no_vocals": sound + "?b"}, 1),
        ({"audio_out": sound, "prompt_npz": None}, 0),
        ([{"audio": sound}], 0),
        ({"waves_image": thumb, "audio": sound}, 1),
    ]
    for output, others in sounds:
        ends(scripted_upstream, output)
        response = await stubs.audio.GenerateAudio(audio_request(prompt="x", wait=WAIT))
        assert response.generation.audio.audio.media_type == "audio/wav", output
        assert len(response.generation.audio.other_media) == others, output


async def test_missing_video_and_audio(scripted_upstream: ScriptedUpstream, stubs: Stubs) -> None:
    """Their cost is unknown, or what the metrics say; never nothing."""
    shapes: list[Any] = [None, {}, [None]]
    for output in shapes:
        ends(scripted_upstream, output, data_removed=True)
        film = await stubs.video.GenerateVideo(video_request(prompt="x", wait=WAIT))
        sound = await stubs.audio.GenerateAudio(audio_request(prompt="x", wait=WAIT))
        check_lost(film.generation, output)
        check_lost(sound.generation, output)
    listed = await stubs.generations.ListGenerations(ALL)
    assert {generation.cost.state for generation in listed.generations} <= {
        UNKNOWN,
        cost_pb2.COST_STATE_ASSUMED,
    }


async def test_text_in_other_shapes(scripted_upstream: ScriptedUpstream, stubs: Stubs) -> None:
    """The text; what is none of the usual as the JSON that it is."""
    for output, text in (
        (42, "42"),
        ([["he"], ["llo"]], "hello"),
        ([{"text": "he"}, {"text": "llo"}], "hello"),
        ({"response": "hello", "usage": {}}, "hello"),
        ({"output": {"content": ["he", "llo"]}}, "hello"),
        (["he", None, "llo"], "hello"),
        ({"label": "cat"}, '{"label": "cat"}'),
        ([], ""),
    ):
        ends(scripted_upstream, output, metrics=TOKENS)
        answer = await stubs.text.GenerateText(text_request(prompt="x"))
        assert answer.generation.state == State.STATE_SUCCEEDED, output
        assert answer.generation.text.text == text
        streamed = ""
        async for event in stubs.text.StreamText(stream_text_request(prompt="x")):
            streamed += event.delta.text
        assert streamed == text


async def test_missing_text_fails_with_output_lost(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """It was not cut: nobody was sent any of it. What was used is paid."""
    for output, removed in ((None, False), (None, True), ([], True), ({}, False), ([None], False)):
        ends(scripted_upstream, output, data_removed=removed, metrics=TOKENS)
        answer = await stubs.text.GenerateText(text_request(prompt="x"))
        check_lost(answer.generation, output)
        error = await rpc_error(stubs.text.StreamText(stream_text_request(prompt="x")))
        assert error.code() is grpc.StatusCode.DATA_LOSS
        assert reason_of(error) == "OUTPUT_LOST", output
    listed = await stubs.generations.ListGenerations(ALL)
    assert {generation.cost.usd_nanos for generation in listed.generations} == {
        12 * 650 + 34 * 2750
    }


async def test_a_streamed_text_is_not_lost(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Upstream has removed it by then; the stream came to its own end."""
    scripted_upstream.creates = [says(prediction(scripted_upstream, "starting"), 201)]
    gone = prediction(
        scripted_upstream, "succeeded", output=None, data_removed=True, metrics=TOKENS
    )
    scripted_upstream.gets = [says(gone)]
    scripted_upstream.streams = [streams(token("hello", 0), "event: done\ndata: {}\n\n")]
    streamed = ""
    async for event in stubs.text.StreamText(stream_text_request(prompt="x")):
        streamed += event.delta.text
    assert streamed == "hello"


async def test_run_model_of_a_catalog_model_is_charged(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Its output is shown as it is; nobody has counted pictures in it."""
    scripted_upstream.models["black-forest-labs/flux-dev"] = {
        "owner": "black-forest-labs",
        "name": "flux-dev",
        "is_official": True,
    }
    shapes: list[Any] = [None, {"images": []}, "words"]
    for output in shapes:
        ends(scripted_upstream, output)
        request = run_model_request("black-forest-labs/flux-dev")
        request.input.update({"prompt": "x"})
        response = await stubs.models.RunModel(request)
        assert response.generation.state == State.STATE_SUCCEEDED
        assert response.generation.cost.state == UNKNOWN
    ends(scripted_upstream, None, data_removed=True)
    request = run_model_request("black-forest-labs/flux-dev")
    request.input.update({"prompt": "x"})
    check_lost((await stubs.models.RunModel(request)).generation, None)
