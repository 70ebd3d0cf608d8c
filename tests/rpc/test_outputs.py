"""What was made is kept: what it is, where it is, and what is told where it could not be."""

import asyncio
import base64
import hashlib
from datetime import datetime, timedelta
from typing import Any

import grpc
import pytest
from aiohttp import ClientSession, web
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import (
    audio_pb2,
    generation_pb2,
    generations_pb2,
    image_pb2,
    media_pb2,
    medium_pb2,
    options_pb2,
)
from mediagate_sandbox.clock import SystemClock
from mediagate_sandbox.files import render_file
from mediagate_sandbox.generators.spec import ImageRecipe, VideoRecipe
from mediagate_sandbox.server import Sandbox, SandboxSettings
from tests.builders import audio_request, image_request, text_request, video_request
from tests.grpc_errors import reason_of, rpc_error
from tests.media.file_server import FileServer, file

from .generation_waits import wait_for_end
from .media_transfers import read_output
from .scripted_upstream import ID, ScriptedUpstream, says
from .stubs import OpenServer, Stubs

State = generation_pb2.Generation
PICTURE = render_file(ImageRecipe("a/b", "x", 1, 320, 192, "png"))
FILM = render_file(VideoRecipe("a/b", "x", 1, 320, 192, 1.0, 8))
WAIT = Duration(seconds=30)


@pytest.fixture
def file_server(scripted_upstream: ScriptedUpstream) -> FileServer:
    """Upstream's files."""
    return scripted_upstream.files


def outputs(scripted: ScriptedUpstream, *links: str, **fields: Any) -> None:
    """Every create ends at once with these outputs."""
    metrics = {"image_count": len(links)}
    done = {"id": ID, "status": "succeeded", "output": list(links), "metrics": metrics, **fields}
    scripted.creates = [says(done, 201)]


def picture(**fields: Any) -> image_pb2.GenerateImageRequest:
    """A request for pictures of a model that answers with a list."""
    return image_request(prompt="x", model="flux-schnell", **fields)


def facts(medium: medium_pb2.Media) -> tuple[str, int, str]:
    """Type, size and hash."""
    return medium.media_type, medium.size_bytes, medium.sha256


def facts_of(content: bytes, media_type: str) -> tuple[str, int, str]:
    """The same, of bytes."""
    return media_type, len(content), hashlib.sha256(content).hexdigest()


async def test_all_kinds_of_media_are_archived(sandbox_stubs: Stubs) -> None:
    """What each of them is, read from the file; the link is still upstream's, with its end."""
    image = await sandbox_stubs.image.GenerateImage(image_request(prompt="x"))
    video = await sandbox_stubs.video.GenerateVideo(video_request(prompt="x", wait=WAIT))
    audio = await sandbox_stubs.audio.GenerateAudio(
        audio_request(prompt="x", duration=Duration(seconds=3))
    )
    (stored_image,) = image.generation.images.images
    seen, heard = video.generation.video.video, audio.generation.audio.audio
    assert (stored_image.width > 0, stored_image.height > 0, stored_image.HasField("duration")) == (
        True,
        True,
        False,
    )
    assert (seen.width > 0, seen.height > 0, seen.duration.seconds > 0) == (True, True, True)
    assert (heard.HasField("width"), heard.duration.seconds) == (False, 3)
    for response, medium in ((image, stored_image), (video, seen), (audio, heard)):
        assert response.generation.state == State.STATE_SUCCEEDED
        assert medium.id == f"{response.generation.id}/0"
        assert medium.uri.startswith("http://127.0.0.1")
        assert medium.uri_expire_time.seconds > response.generation.complete_time.seconds + 3_000
        assert not medium.HasField("error")
        again, content = await read_output(sandbox_stubs, response.generation.id)
        assert again == medium
        assert facts(medium) == facts_of(content, medium.media_type)


async def test_audio_in_an_object_is_archived(sandbox_stubs: Stubs) -> None:
    """Bark answers with an object; what is kept is the sound."""
    options = options_pb2.GenerationOptions(model="suno")
    response = await sandbox_stubs.audio.GenerateAudio(
        audio_pb2.GenerateAudioRequest(text="Hello there.", options=options)
    )
    medium, content = await read_output(sandbox_stubs, response.generation.id)
    assert medium.media_type == "audio/wav"
    assert content[:4] == b"RIFF"


async def test_reading_a_range(sandbox_stubs: Stubs) -> None:
    """From anywhere, so that a read that was cut goes on."""
    response = await sandbox_stubs.image.GenerateImage(image_request(prompt="x"))
    name = response.generation.id
    medium, full_content = await read_output(sandbox_stubs, name)
    for offset, limit in (
        (0, 100),
        (100, 100),
        (len(full_content) - 3, 100),
        (len(full_content), 1),
    ):
        partial_medium, range_content = await read_output(
            sandbox_stubs, name, offset=offset, limit=limit
        )
        assert partial_medium == medium
        assert range_content == full_content[offset : offset + limit]


async def test_finalizing_shows_no_output_yet(
    scripted_upstream: ScriptedUpstream, file_server: FileServer, stubs: Stubs
) -> None:
    """FINALIZING is paid and settled, and shows no output yet."""
    fetched = asyncio.Event()

    async def late(request: web.Request) -> web.StreamResponse:
        await fetched.wait()
        return web.Response(body=PICTURE)

    outputs(scripted_upstream, file_server.put("/a.png", late))
    begun = await stubs.image.GenerateImage(picture(wait=Duration(nanos=1)))
    name = begun.generation.id
    watching = stubs.generations.WatchGeneration(generations_pb2.WatchGenerationRequest(id=name))
    states = []
    async for change in watching:
        states.append(change.generation.state)
        if change.generation.state == State.STATE_FINALIZING:
            assert change.generation.WhichOneof("output") is None
            assert not change.generation.HasField("complete_time")
            assert change.generation.cost.usd_nanos == 3_000_000
            fetched.set()
    assert states[-2:] == [State.STATE_FINALIZING, State.STATE_SUCCEEDED]
    medium, content = await read_output(stubs, name)
    assert content == PICTURE
    assert (medium.width, medium.height) == (320, 192)


async def test_a_crash_while_archiving(
    scripted_upstream: ScriptedUpstream, file_server: FileServer, open_server: OpenServer
) -> None:
    """The next process keeps it; it is settled once and never asked of upstream again."""
    requested = asyncio.Event()

    async def never(request: web.Request) -> web.StreamResponse:
        requested.set()
        await asyncio.Event().wait()
        return web.Response()

    outputs(scripted_upstream, file_server.put("/a.png", never))
    async with open_server(scripted_upstream.url) as (stubs, _):
        begun = await stubs.image.GenerateImage(picture(wait=Duration(nanos=1)))
        await requested.wait()
    file_server.put("/a.png", file(PICTURE))
    before = scripted_upstream.get_count
    async with open_server(scripted_upstream.url) as (stubs, _):
        generation = await wait_for_end(stubs, begun.generation.id)
        assert generation.state == State.STATE_SUCCEEDED
        assert generation.cost.usd_nanos == 3_000_000
        assert (await read_output(stubs, begun.generation.id))[1] == PICTURE
    assert scripted_upstream.get_count == before
    assert len(scripted_upstream.posted) == 1


async def test_an_output_that_cannot_be_archived_keeps_its_link(
    scripted_upstream: ScriptedUpstream, file_server: FileServer, stubs: Stubs
) -> None:
    """The generation succeeded and is paid; each output says for itself what became of it."""
    good = file_server.put("/a.png", file(PICTURE))
    gone = file_server.put("/b.png", file(b"", status=410))
    absent = file_server.put("/c.png", file(b"", status=403))
    far = "http://localhost:9/d.png"
    unreadable = "https://["
    outputs(scripted_upstream, good, gone, absent, far, unreadable)
    response = await stubs.image.GenerateImage(picture(count=4))
    assert response.generation.state == State.STATE_SUCCEEDED
    media = response.generation.images.images
    assert [medium.uri for medium in media] == [good, gone, absent, far, unreadable]
    assert [bool(medium.id) for medium in media] == [True, False, False, False, False]
    for index, medium in enumerate(media):
        if index == 0:
            assert not medium.HasField("error")
            continue
        assert medium.error.code == grpc.StatusCode.DATA_LOSS.value[0]
        assert "OUTPUT_STORE_FAILED" in str(medium.error)
        assert "127.0.0.1" not in str(medium.error)
        assert medium.HasField("uri_expire_time")
        error = await rpc_error(read_output(stubs, response.generation.id, index))
        assert error.code() is grpc.StatusCode.DATA_LOSS
        assert reason_of(error) == "OUTPUT_STORE_FAILED"


async def test_a_large_data_uri_is_read_with_read_media(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """It would make answers too large for callers' channels; small ones stay as they are."""
    for content, stays in ((PICTURE[:99], True), (PICTURE + bytes(5_000_000), False)):
        uri = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        outputs(scripted_upstream, uri)
        response = await stubs.image.GenerateImage(picture())
        (medium,) = response.generation.images.images
        assert medium.uri == (uri if stays else "")
        assert facts(medium) == facts_of(content, "image/png")
        assert (await read_output(stubs, response.generation.id))[1] == content


async def test_missing_outputs_are_not_found(sandbox_stubs: Stubs) -> None:
    """No such generation, no such output, none at all, none yet: all the same."""
    text = await sandbox_stubs.text.GenerateText(text_request(prompt="x"))
    image = await sandbox_stubs.image.GenerateImage(image_request(prompt="x"))
    begun = await sandbox_stubs.video.GenerateVideo(video_request(prompt="[[seconds=60]] x"))
    for name, index in (
        ("gen_0", 0),
        ("../../data", 0),
        (text.generation.id, 0),
        (image.generation.id, 1),
        (begun.generation.id, 0),
    ):
        error = await rpc_error(read_output(sandbox_stubs, name, index))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert reason_of(error) == "GENERATION_NOT_FOUND"


async def test_an_image_becomes_a_video(sandbox_stubs: Stubs, sandbox: Sandbox) -> None:
    """By upstream's own link while that lives: no byte of it goes anywhere."""
    image = await sandbox_stubs.image.GenerateImage(image_request(prompt="x"))
    ref = medium_pb2.OutputRef(generation_id=image.generation.id)
    video = await sandbox_stubs.video.GenerateVideo(
        video_request(prompt="x", first_frame=medium_pb2.MediaInput(output=ref), wait=WAIT)
    )
    assert video.generation.state == State.STATE_SUCCEEDED
    given = await _input_of(sandbox, video.generation)
    assert given["first_frame_image"] == image.generation.images.images[0].uri


class ClockAhead(SystemClock):
    """The machine's time and some hours more."""

    hours = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(hours=self.hours)

    def monotonic(self) -> float:
        return super().monotonic() + self.hours * 3_600


async def test_archived_outputs_outlive_upstreams_link(open_server: OpenServer) -> None:
    """The sandbox forgets outputs as Replicate does; the kept copy becomes the first frame."""
    clock = ClockAhead()
    async with (
        Sandbox(SandboxSettings(port=0), clock=clock) as sandbox,
        open_server(sandbox.url) as (stubs, _),
    ):
        image = await stubs.image.GenerateImage(
            image_request(prompt="x", size=medium_pb2.Size(width=1024, height=1024))
        )
        clock.hours = 1.1
        (medium,) = image.generation.images.images
        async with ClientSession() as session, session.get(medium.uri) as answer:
            assert answer.status == 404
        _, stored_content = await read_output(stubs, image.generation.id)
        ref = medium_pb2.OutputRef(generation_id=image.generation.id)
        video = await stubs.video.GenerateVideo(
            video_request(prompt="x", first_frame=medium_pb2.MediaInput(output=ref), wait=WAIT)
        )
        assert video.generation.state == State.STATE_SUCCEEDED
        given = (await _input_of(sandbox, video.generation))["first_frame_image"]
        if given.startswith("data:"):
            assert base64.b64decode(given.partition(",")[2]) == stored_content
        else:
            headers = {"Authorization": "Bearer r8_test_token"}
            async with ClientSession(headers=headers) as session, session.get(given) as answer:
                document = await answer.json()
            assert document["checksums"]["sha256"] == hashlib.sha256(stored_content).hexdigest()


async def test_an_archived_output_replaces_a_dead_link(
    scripted_upstream: ScriptedUpstream, file_server: FileServer, stubs: Stubs
) -> None:
    """Upstream forgot it earlier than it said: the copy is handed over instead."""
    link = file_server.put("/a.png", file(PICTURE))
    outputs(scripted_upstream, link)
    image = await stubs.image.GenerateImage(picture())
    file_server.put("/a.png", file(b"", status=404))
    options = options_pb2.GenerationOptions(model="flux-dev")
    ref = medium_pb2.OutputRef(generation_id=image.generation.id)
    await stubs.image.GenerateImage(
        image_request(
            prompt="x", reference_images=[medium_pb2.MediaInput(output=ref)], options=options
        )
    )
    expected = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"
    assert scripted_upstream.posted[-1]["input"]["image"] == expected


async def test_a_dead_link_without_a_copy_is_refused(
    scripted_upstream: ScriptedUpstream, file_server: FileServer, stubs: Stubs
) -> None:
    """There is nothing left to give the model: refused before anything is spent."""
    outputs(scripted_upstream, file_server.put("/a.png", file(b"", status=410)))
    image = await stubs.image.GenerateImage(picture())
    ref = medium_pb2.OutputRef(generation_id=image.generation.id)
    error = await rpc_error(
        stubs.image.GenerateImage(
            image_request(
                prompt="x", reference_images=[medium_pb2.MediaInput(output=ref)], model="flux-dev"
            )
        )
    )
    assert reason_of(error) == "GENERATION_NOT_FOUND"
    assert len(scripted_upstream.posted) == 1


async def _input_of(sandbox: Sandbox, generation: Any) -> Any:
    (attempt,) = generation.attempts
    async with (
        ClientSession(headers={"Authorization": "Bearer r8_test_token"}) as session,
        session.get(f"{sandbox.base_url}/predictions/{attempt.prediction_id}") as answer,
    ):
        return (await answer.json())["input"]


async def read_on(call: Any) -> None:
    """To the end of a stream that has begun."""
    while await call.read() is not grpc.aio.EOF:
        pass


async def test_media_deleted_while_read_are_not_found(
    scripted_upstream: ScriptedUpstream, file_server: FileServer, stubs: Stubs
) -> None:
    """It is no loss of data: somebody has asked for it."""
    large = PICTURE + bytes(24 * 1024 * 1024)
    outputs(scripted_upstream, file_server.put("/large.png", file(large)))
    name = (await stubs.image.GenerateImage(picture())).generation.id
    output_ref = medium_pb2.OutputRef(generation_id=name, index=0)
    call = stubs.media.ReadMedia(media_pb2.ReadMediaRequest(output=output_ref))
    await call.read()
    await stubs.generations.DeleteGeneration(generations_pb2.DeleteGenerationRequest(id=name))
    error = await rpc_error(read_on(call))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert reason_of(error) == "GENERATION_NOT_FOUND"
