"""Outputs kept to the end, through outages and restarts; read from the web port or from S3."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import generation_pb2, generations_pb2, image_pb2
from mediagate_sandbox.server import Sandbox
from tests.builders import video_request
from tests.conftest import Require
from tests.media.file_server import file

from .fake_clocks import SteppedClock
from .generation_waits import get_generation, wait_for_end
from .media_transfers import read_output
from .scripted_upstream import ID, ScriptedUpstream, says
from .storage_outage import HALF_LIFETIME, OUTAGE, PICTURE, storage, wait_until_asleep
from .stubs import OpenServer

State = generation_pb2.Generation
WAIT = Duration(seconds=30)
PORT = "127.0.0.1:0"
MANY = 3


@pytest.fixture
def bucket(s3: str, request: pytest.FixtureRequest) -> str:
    """The name of a bucket that is not there yet."""
    return f"bucket-{abs(hash(request.node.nodeid))}"


async def fetched(link: str, **headers: str) -> tuple[int, bytes]:
    """Status and body of a GET without any key."""
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(link) as answer,
    ):
        return answer.status, await answer.read()


async def test_an_outage_of_storage_and_a_restart(
    sandbox: Sandbox, open_server: OpenServer, s3: str, bucket: str
) -> None:
    """The bucket is not there for 30 % of the sources' life: all is kept before half of it."""
    clock = SteppedClock()
    settings = storage(s3, bucket)
    async with open_server(sandbox.url, clock=clock, **settings) as (stubs, _):
        responses = [await stubs.image.GenerateImage(PICTURE) for _ in range(MANY)]
        names = [each.generation.id for each in responses]
        while clock.seconds < OUTAGE / 2:
            assert await wait_until_asleep(stubs, clock, names) == MANY
            await clock.step(60)
        assert (await get_generation(stubs, names[0])).state == State.STATE_FINALIZING
    assert clock.sleeping == 0
    async with open_server(sandbox.url, clock=clock, **settings) as (stubs, _):
        while clock.seconds < OUTAGE:
            assert await wait_until_asleep(stubs, clock, names) == MANY
            await clock.step(60)
        async with aiohttp.ClientSession() as session, session.put(f"{s3}/{bucket}"):
            pass
        while await wait_until_asleep(stubs, clock, names):
            await clock.step(60)
        assert clock.seconds < HALF_LIFETIME
        for name in names:
            (medium,) = (await get_generation(stubs, name)).images.images
            assert not medium.HasField("error")
            assert medium.uri.startswith(f"{s3}/{bucket}/media/outputs/{name}/0?X-Amz-")
            assert await fetched(medium.uri) == (200, (await read_output(stubs, name))[1])


async def test_storage_that_stays_unavailable(
    sandbox: Sandbox, open_server: OpenServer, s3: str, bucket: str
) -> None:
    """At half of the source's life it is said: a typed error, and upstream's link until it ends."""
    clock = SteppedClock()
    async with open_server(sandbox.url, clock=clock, **storage(s3, bucket)) as (stubs, _):
        response = await stubs.image.GenerateImage(PICTURE)
        name = response.generation.id
        while await wait_until_asleep(stubs, clock, [name]):
            await clock.step(20)
        assert HALF_LIFETIME - 1 < clock.seconds < HALF_LIFETIME + 20
        ended = await get_generation(stubs, name)
    (medium,) = ended.images.images
    assert "OUTPUT_STORE_FAILED" in str(medium.error)
    assert s3 not in str(medium.error)
    assert not medium.id
    assert medium.uri.startswith(sandbox.url)
    assert (
        HALF_LIFETIME - 30
        < medium.uri_expire_time.seconds - clock.now().timestamp()
        < HALF_LIFETIME + 30
    )
    assert ended.cost.usd_nanos == 3_000_000


async def test_signed_urls_are_created_when_read(sandbox: Sandbox, open_server: OpenServer) -> None:
    """By every rpc that shows the generation, each time for as long as the operator allows."""
    clock = SteppedClock()
    more = {"web_address": PORT, "link_life": 600}
    async with open_server(sandbox.url, clock=clock, **more) as (stubs, server):
        request = image_pb2.GenerateImageRequest()
        request.CopyFrom(PICTURE)
        request.ClearField("wait")
        first = (await stubs.image.GenerateImage(request)).generation
        name = first.id
        await clock.step(300)
        listed = await stubs.generations.ListGenerations(generations_pb2.ListGenerationsRequest())
        generation = await wait_for_end(stubs, name)
        read, content = await read_output(stubs, name)
        later = [
            (await get_generation(stubs, name)).images.images[0],
            listed.generations[0].images.images[0],
            generation.images.images[0],
            read,
        ]
        for medium in (first.images.images[0], *later):
            assert medium.uri.startswith(f"http://{server.web_address}/media/{name}/0?")
            assert await fetched(medium.uri) == (200, content)
        begun = first.images.images[0].uri_expire_time.seconds
        assert {medium.uri_expire_time.seconds - begun for medium in later} <= {300, 301}
        await clock.step(450)
        assert (await fetched(first.images.images[0].uri))[0] == 410
        assert await fetched(read.uri) == (200, content)
    again = {"web_address": PORT, "public_url": "https://media.example/gate"}
    async with open_server(sandbox.url, **again) as (stubs, _):
        (medium,) = (await get_generation(stubs, name)).images.images
        assert medium.uri.startswith(f"https://media.example/gate/media/{name}/0?")


@pytest.fixture
async def film(sandbox: Sandbox, open_server: OpenServer) -> AsyncIterator[str]:
    """The link to a film that is kept."""
    async with open_server(sandbox.url, web_address=PORT) as (stubs, _):
        response = await stubs.video.GenerateVideo(video_request(prompt="x", wait=WAIT))
        yield response.generation.video.video.uri


async def test_a_player_reads_byte_ranges(film: str, require: Require) -> None:
    """Ffprobe finds what is in the film, from the middle of it on."""
    command = [
        require("ffprobe"), "-v", "error", "-of", "json", "-show_streams", "-show_format",
        "-read_intervals", "50%", "-count_packets", film,
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    seen = json.loads(out)
    assert "video" in {stream["codec_type"] for stream in seen["streams"]}
    assert float(seen["format"]["duration"]) > 1
    assert await fetched(film, Range="bytes=4-7") == (206, b"ftyp")


async def test_an_output_over_the_size_limit(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """A typed error and the source's link, at once: no other try would help."""
    link = scripted_upstream.files.put("/a.png", file(bytes(1_001)))
    metrics = {"image_count": 1}
    done = {"id": ID, "status": "succeeded", "output": [link], "metrics": metrics}
    scripted_upstream.creates = [says(done, 201)]
    async with open_server(scripted_upstream.url, output_max_bytes=1_000, web_address=PORT) as (
        stubs,
        _,
    ):
        request = image_pb2.GenerateImageRequest()
        request.CopyFrom(PICTURE)
        request.ClearField("wait")
        response = await stubs.image.GenerateImage(request)
    assert response.generation.state == State.STATE_SUCCEEDED
    (medium,) = response.generation.images.images
    assert "OUTPUT_STORE_FAILED" in str(medium.error)
    assert (medium.uri, medium.id) == (link, "")
    assert medium.HasField("uri_expire_time")
    assert len(scripted_upstream.files.requests) == 1
