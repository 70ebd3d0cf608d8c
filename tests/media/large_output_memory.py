"""A large output through a server that runs as a process: its memory stays what it was."""

import asyncio
import hashlib
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import grpc
import httpx
import pytest
from aiohttp import web

from mediagate.v1 import image_pb2, medium_pb2, options_pb2
from tests.conftest import Missing
from tests.process_memory import Memory
from tests.rpc.scripted_upstream import ID, ScriptedUpstream, open_scripted_upstream, says
from tests.rpc.stubs import Stubs
from tests.server_process import running_server

from .file_server import Answer

MIB = 1024 * 1024
MOST_GROWTH = 16 * MIB
_HEAD = b"\0\0\0\x18ftypmp42" + bytes(16)


def zeros(size: int) -> Answer:
    """A file that begins like a film, and is nothing else."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(_HEAD) + size
        await response.prepare(request)
        await response.write(_HEAD)
        for _ in range(size // MIB):
            await response.write(bytes(MIB))
        return response

    return answer


def sha256(size: int) -> str:
    """Of that file."""
    digest = hashlib.sha256(_HEAD)
    for _ in range(size // MIB):
        digest.update(bytes(MIB))
    return digest.hexdigest()


async def growth_over(folder: Path, scripted: ScriptedUpstream, size: int, **settings: str) -> int:
    """How many bytes of memory it takes to keep an output of this size, and to read it by its link.

    It is kept whole and read whole.
    """
    with ExitStack() as stack:
        server = stack.enter_context(
            running_server(
                folder,
                MEDIAGATE_UPSTREAM_URL=scripted.url,
                REPLICATE_API_TOKEN="r8_test_token",
                MEDIAGATE_OUTPUT_TIMEOUT="3600",
                **settings,
            )
        )
        memory = Memory(server.process.pid)
        async with grpc.aio.insecure_channel(server.address) as channel:
            stubs = Stubs.on(channel)
            await _turn(stubs, scripted, 32 * MIB)  # What is loaded at the first call of its kind.
            memory.forget()
            before = memory.now()
            medium = await _turn(stubs, scripted, size)
            assert medium.size_bytes == size + len(_HEAD)
            assert medium.media_type == "video/mp4"
            assert medium.sha256 == await asyncio.to_thread(sha256, size)
            return memory.most() - before


async def _turn(stubs: Stubs, scripted: ScriptedUpstream, size: int) -> medium_pb2.Media:
    link = scripted.files.put("/large", zeros(size))
    done = {"id": ID, "status": "succeeded", "output": [link], "metrics": {"image_count": 1}}
    scripted.creates = [says(done, 201)]
    options = options_pb2.GenerationOptions(model="flux-schnell")
    options.timeout.seconds = 3_000
    generation = await stubs.image.GenerateImage(
        image_pb2.GenerateImageRequest(prompt="x", options=options)
    )
    (medium,) = generation.generation.images.images
    assert not medium.HasField("error"), medium.error
    read = 0
    async with aiohttp.ClientSession() as session, session.get(medium.uri) as answer:
        assert answer.status == 200
        async for chunk in answer.content.iter_chunked(MIB):
            read += len(chunk)
    assert read == medium.size_bytes
    return medium


def storage_settings(
    storage: str, request: pytest.FixtureRequest, missing: Missing
) -> dict[str, str]:
    """The settings of a server that keeps media in a "folder" or in "s3", its memory measured."""
    if not Path("/proc/self/clear_refs").exists():
        missing("/proc/PID/clear_refs, to measure memory")
    if storage == "folder":
        return {}
    s3 = request.getfixturevalue("s3")
    assert httpx.put(f"{s3}/large").status_code in (200, 409)
    return {
        "MEDIAGATE_STORAGE_URL": "s3://large/media",
        "MEDIAGATE_STORAGE_ENDPOINT": s3,
        "MEDIAGATE_STORAGE_ACCESS_KEY_ID": "an-id",
        "MEDIAGATE_STORAGE_SECRET_ACCESS_KEY": "a-secret",
    }


async def check_growth(folder: Path, size: int, settings: dict[str, str]) -> None:
    """One such output is kept and read back whole, with at most 16 MiB more at the peak."""
    async with open_scripted_upstream() as scripted:
        growth = await growth_over(folder, scripted, size, **settings)
    print(f"memory grew by {growth / MIB:.1f} MiB")
    assert growth <= MOST_GROWTH, f"{growth / MIB:.1f} MiB"
