"""Media as input, through a server: what the model is given for each way to name one."""

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from aiohttp import ClientSession

from mediagate.v1 import image_pb2, medium_pb2, models_pb2, options_pb2
from mediagate_sandbox.files import render_file
from mediagate_sandbox.generators.spec import ImageRecipe
from mediagate_sandbox.server import Sandbox
from tests.builders import image_request, run_model_request, text_request, video_request
from tests.grpc_errors import fields_of, reason_of, rpc_error

from .media_transfers import upload
from .scripted_upstream import ScriptedUpstream, prediction, says
from .stubs import OpenServer, Stubs

SMALL = render_file(ImageRecipe("a/b", "x", 1, 320, 192, "jpg"))
LARGE = render_file(ImageRecipe("a/b", "x", 1, 320, 192, "png")) + bytes(300_000)
TOKEN = {"Authorization": "Bearer r8_test_token"}

Input = medium_pb2.MediaInput
Seen = Callable[[Any], Awaitable[Any]]


@pytest.fixture
def seen(sandbox: Sandbox) -> Seen:
    """What a generation's model was given as its input."""

    async def look(generation: Any) -> Any:
        (attempt,) = generation.attempts
        async with (
            ClientSession(headers=TOKEN) as session,
            session.get(f"{sandbox.base_url}/predictions/{attempt.prediction_id}") as answer,
        ):
            return (await answer.json())["input"]

    return look


async def file_at(link: str) -> Any:
    """What upstream's files API says about a file."""
    async with ClientSession(headers=TOKEN) as session, session.get(link) as answer:
        assert answer.status == 200
        return await answer.json()


def picture(*references: Input, **fields: Any) -> image_pb2.GenerateImageRequest:
    """A picture after another one."""
    return image_request(prompt="x", reference_images=references, model="flux-dev", **fields)


async def test_a_small_upload_is_sent_inline(sandbox_stubs: Stubs, seen: Seen) -> None:
    """As a data URI, which costs no upload."""
    uploaded = await upload(sandbox_stubs, SMALL)
    response = await sandbox_stubs.image.GenerateImage(picture(Input(upload_id=uploaded.upload_id)))
    expected = f"data:image/jpeg;base64,{base64.b64encode(SMALL).decode()}"
    assert (await seen(response.generation))["image"] == expected


async def test_a_larger_upload_is_sent_to_the_files_api_once(
    sandbox_stubs: Stubs, sandbox: Sandbox, seen: Seen
) -> None:
    """By the files API; who asks for it again, and at the same time, gets the same link."""
    uploaded = await upload(sandbox_stubs, LARGE)
    answers = await asyncio.gather(
        *(
            sandbox_stubs.image.GenerateImage(picture(Input(upload_id=uploaded.upload_id)))
            for _ in range(3)
        )
    )
    links = {(await seen(response.generation))["image"] for response in answers}
    (link,) = links
    document = await file_at(link)
    assert document["checksums"]["sha256"] == hashlib.sha256(LARGE).hexdigest()
    assert document["content_type"] == "image/png"
    assert len((await file_at(f"{sandbox.base_url}/files"))["results"]) == 1


async def test_large_inline_bytes_are_sent_to_the_files_api(
    sandbox_stubs: Stubs, seen: Seen
) -> None:
    """Replicate wants no large data URIs; few bytes still travel as one."""
    for data, is_link in ((SMALL, False), (LARGE, True)):
        medium = Input(inline=medium_pb2.InlineMedia(data=data))
        response = await sandbox_stubs.image.GenerateImage(picture(medium))
        given = (await seen(response.generation))["image"]
        assert given.startswith("http") is is_link


async def test_a_list_and_a_mask(sandbox_stubs: Stubs, seen: Seen) -> None:
    """Each of several media, wherever it stands."""
    response, two = await upload(sandbox_stubs, SMALL), await upload(sandbox_stubs, LARGE)
    request = picture(Input(upload_id=two.upload_id), mask=Input(upload_id=response.upload_id))
    request.options.model = "sdxl"
    given = await seen((await sandbox_stubs.image.GenerateImage(request)).generation)
    assert given["image"].startswith("http://127.0.0.1")
    assert given["mask"].startswith("data:image/jpeg;base64,")


async def test_media_inputs_of_run_model(sandbox_stubs: Stubs, seen: Seen) -> None:
    """Its media by name: an output is enlarged, an upload too; what is missing is named."""
    response = await sandbox_stubs.image.GenerateImage(picture())
    ref = medium_pb2.OutputRef(generation_id=response.generation.id)
    uploaded = await upload(sandbox_stubs, LARGE)
    for medium in (Input(output=ref), Input(upload_id=uploaded.upload_id)):
        answer = await sandbox_stubs.models.RunModel(enlarge(medium))
        assert (await seen(answer.generation))["image"].startswith("http://127.0.0.1")
        assert answer.generation.raw.media[0].width > 0
    error = await rpc_error(sandbox_stubs.models.RunModel(enlarge(Input(upload_id="upl_0"))))
    assert reason_of(error) == "UPLOAD_NOT_FOUND"
    assert fields_of(error) == {'media["image"].media[0].upload_id'}


def enlarge(medium: Input) -> models_pb2.RunModelRequest:
    """A run of an upscaler."""
    media = {"image": models_pb2.RunModelMedia(media=[medium])}
    return run_model_request("nightmareai/real-esrgan", media=media)


async def test_a_repeat_does_not_need_the_upload(
    sandbox: Sandbox, open_server: OpenServer, tmp_path: Path
) -> None:
    """The same request_id finds its generation, whatever has become of the media meanwhile."""
    folder = tmp_path / "data" / "media" / "kept" / "uploads"
    async with open_server(sandbox.url) as (stubs, _):
        uploaded = await upload(stubs, LARGE)
        request = picture(Input(upload_id=uploaded.upload_id), request_id=str(uuid4()))
        first = await stubs.image.GenerateImage(request)
        (folder / uploaded.upload_id).unlink()
        (folder / f"{uploaded.upload_id}.notes").unlink()
        again = await stubs.image.GenerateImage(request)
        assert again.replayed
        assert again.generation.id == first.generation.id
        error = await rpc_error(
            stubs.image.GenerateImage(picture(Input(upload_id=uploaded.upload_id)))
        )
        assert reason_of(error) == "UPLOAD_NOT_FOUND"


MISSING: dict[str, tuple[Input, str, str, str]] = {
    "upload": (
        Input(upload_id="upl_" + "0" * 32),
        "NOT_FOUND",
        "UPLOAD_NOT_FOUND",
        "reference_images[0].upload_id",
    ),
    "no upload's name": (
        Input(upload_id="../../x"),
        "NOT_FOUND",
        "UPLOAD_NOT_FOUND",
        "reference_images[0].upload_id",
    ),
    "generation": (
        Input(output=medium_pb2.OutputRef(generation_id="gen_0")),
        "NOT_FOUND",
        "GENERATION_NOT_FOUND",
        "reference_images[0].output",
    ),
    "negative index": (
        Input(output=medium_pb2.OutputRef(generation_id="gen_0", index=-1)),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "reference_images[0].output.index",
    ),
    "nothing": (Input(), "INVALID_ARGUMENT", "INVALID_REQUEST", "reference_images[0]"),
}


@pytest.mark.parametrize("case", sorted(MISSING))
@pytest.mark.parametrize("validate_only", [False, True])
async def test_missing_media_are_refused(
    case: str, validate_only: bool, sandbox_stubs: Stubs, sandbox: Sandbox
) -> None:
    """Told before anything is bound or spent, with the field; also by validate_only."""
    medium, code, reason, field = MISSING[case]
    error = await rpc_error(
        sandbox_stubs.image.GenerateImage(picture(medium, validate_only=validate_only))
    )
    assert (error.code().name, reason_of(error)) == (code, reason)
    assert fields_of(error) == {field}
    assert (await file_at(f"{sandbox.base_url}/predictions"))["results"] == []


async def test_a_missing_output_index_is_refused(sandbox_stubs: Stubs) -> None:
    """There is no such output: told with the field."""
    text = await sandbox_stubs.text.GenerateText(text_request(prompt="x"))
    image = await sandbox_stubs.image.GenerateImage(image_request(prompt="x"))
    for response, index in ((text, 0), (image, 1)):
        ref = medium_pb2.OutputRef(generation_id=response.generation.id, index=index)
        error = await rpc_error(sandbox_stubs.image.GenerateImage(picture(Input(output=ref))))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert reason_of(error) == "GENERATION_NOT_FOUND"
        assert fields_of(error) == {"reference_images[0].output"}


async def test_an_unfinished_output_is_refused(sandbox_stubs: Stubs) -> None:
    """Refused: what it will be nobody knows."""
    begun = await sandbox_stubs.video.GenerateVideo(video_request(prompt="[[seconds=30]] x"))
    ref = medium_pb2.OutputRef(generation_id=begun.generation.id)
    error = await rpc_error(sandbox_stubs.image.GenerateImage(picture(Input(output=ref))))
    assert reason_of(error) == "INVALID_REQUEST"
    assert fields_of(error) == {"reference_images[0].output"}


async def test_validate_only_sends_no_file(sandbox_stubs: Stubs, sandbox: Sandbox) -> None:
    """It looks whether the upload is there, and that is all."""
    uploaded = await upload(sandbox_stubs, LARGE)
    planned = await sandbox_stubs.image.GenerateImage(
        picture(Input(upload_id=uploaded.upload_id), validate_only=True)
    )
    assert planned.plan.model
    assert (await file_at(f"{sandbox.base_url}/files"))["results"] == []


async def test_an_upstream_without_a_files_api(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """What fits goes within the request all the same; what does not is refused, unbound."""
    scripted_upstream.creates = [says(prediction(scripted_upstream, "failed", metrics={}), 201)]
    scripted_upstream.gets = [says(prediction(scripted_upstream, "failed", metrics={}))]
    name = (await upload(stubs, LARGE)).upload_id
    request = picture(Input(upload_id=name))
    request.options.fallback.mode = options_pb2.FallbackPolicy.MODE_NONE
    await stubs.image.GenerateImage(request)
    sent = scripted_upstream.posted[0]["input"]["image"]
    assert sent == f"data:image/png;base64,{base64.b64encode(LARGE).decode()}"
    huge = (await upload(stubs, bytes(3 * 1024 * 1024 + 1), media_type="image/png")).upload_id
    error = await rpc_error(stubs.image.GenerateImage(picture(Input(upload_id=huge))))
    assert reason_of(error) == "MEDIA_TOO_LARGE"
    assert fields_of(error) == {"reference_images[0].upload_id"}
    assert len(scripted_upstream.posted) == 1
