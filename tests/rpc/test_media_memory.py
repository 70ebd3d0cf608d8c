"""A large medium in and out of a server that runs as a process: its memory stays what it was."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import ClientSession
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import generation_pb2, generations_pb2, media_pb2, medium_pb2, video_pb2
from mediagate_sandbox.server import Sandbox, SandboxSettings
from tests.builders import image_request, video_request
from tests.conftest import Missing
from tests.process_memory import Memory
from tests.server_process import ServerProcess, running_server

from .media_transfers import messages
from .stubs import Stubs

MIB = 1024 * 1024
MOST_GROWTH = 16 * MIB
SIZE = 90 * MIB
CHUNK = 2 * MIB
WARM, WAITING = 4, 16


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Upstream, in a process that is not the server's."""
    async with Sandbox(SandboxSettings(port=0)) as opened:
        yield opened


@pytest.fixture
def process(sandbox: Sandbox, tmp_path: Path, missing: Missing) -> Iterator[ServerProcess]:
    """A server in front of it."""
    if not Path("/proc/self/clear_refs").exists():
        missing("/proc/PID/clear_refs, to measure memory")
    settings = {"MEDIAGATE_UPSTREAM_URL": sandbox.url, "REPLICATE_API_TOKEN": "r8_test_token"}
    with running_server(tmp_path, **settings) as server:
        yield server


def film(number: int, size: int) -> Iterator[bytes]:
    """A file like a film, each another one."""
    yield b"\0\0\0\x18ftypmp42" + bytes(12) + number.to_bytes(4, "big")
    for _ in range(size // CHUNK):
        yield bytes(CHUNK)


async def turn(stubs: Stubs, number: int, size: int) -> video_pb2.GenerateVideoResponse:
    """Upload a film, make another one from it, read it back."""
    metadata = media_pb2.UploadMetadata(media_type="video/mp4")
    uploaded = await stubs.media.UploadMedia(messages(film(number, size), metadata))
    response = await stubs.video.GenerateVideo(
        video_request(
            prompt="x",
            source_video=medium_pb2.MediaInput(upload_id=uploaded.upload_id),
            wait=Duration(seconds=50),
            model="gen4-aleph",
        )
    )
    digest = hashlib.sha256()
    read = stubs.media.ReadMedia(media_pb2.ReadMediaRequest(upload_id=uploaded.upload_id))
    async for message in read:
        digest.update(message.chunk)
    assert digest.hexdigest() == uploaded.sha256
    return response


async def test_large_media_are_streamed_in_bounded_memory(
    process: ServerProcess, sandbox: Sandbox
) -> None:
    """Streamed to the disk, streamed to upstream, streamed back: at most 16 MiB more."""
    async with grpc.aio.insecure_channel(process.address) as channel:
        stubs = Stubs.on(channel)
        await turn(stubs, 0, 4 * MIB)  # What is loaded at the first call of each kind.
        memory = Memory(process.process.pid)
        memory.forget()
        before = memory.now()
        for number in (1, 2):
            response = await turn(stubs, number, SIZE)
            assert response.generation.state == generation_pb2.Generation.STATE_SUCCEEDED
        growth = memory.most() - before
        print(f"memory grew by {growth / MIB:.1f} MiB")
    assert growth <= MOST_GROWTH, f"{growth / MIB:.1f} MiB"
    async with (
        ClientSession(headers={"Authorization": "Bearer r8_test_token"}) as session,
        session.get(f"{sandbox.base_url}/files") as answer,
    ):
        sizes = sorted(file["size"] for file in (await answer.json())["results"])
    assert sizes == [4 * MIB + 28, SIZE + 28, SIZE + 28]


async def test_waiting_calls_do_not_keep_their_requests(process: ServerProcess) -> None:
    """Sixteen with 3 MB each: neither gRPC, nor a frame of ours, for the minutes of a run."""
    request = image_request(prompt="x [[hang]]", model="flux-dev")
    medium = request.reference_images.add().inline
    medium.data = b"\x89PNG\r\n\x1a\n" + bytes(3_000_000)
    medium.media_type = "image/png"
    async with grpc.aio.insecure_channel(process.address) as channel:
        stubs = Stubs.on(channel)
        memory = Memory(process.process.pid)
        calls: list[Any] = []

        async def more(count: int) -> None:
            for _ in range(count):
                calls.append(stubs.image.GenerateImage(request))
                await until_running(stubs, len(calls))

        await more(WARM)
        before = memory.now()
        await more(WAITING)
        growth = memory.now() - before
        for call in calls:
            call.cancel()
    print(f"memory grew by {growth / MIB:.1f} MiB")
    assert growth <= WAITING * MIB, f"{growth / MIB:.1f} MiB"


async def until_running(stubs: Stubs, count: int) -> None:
    """Until so many generations run."""
    running = generations_pb2.GenerationFilter(states=[generation_pb2.Generation.STATE_RUNNING])
    watch = stubs.generations.WatchGenerations(generations_pb2.WatchGenerationsRequest())
    request = generations_pb2.ListGenerationsRequest(filter=running)
    async for _ in watch:
        if len((await stubs.generations.ListGenerations(request)).generations) >= count:
            break
    watch.cancel()
