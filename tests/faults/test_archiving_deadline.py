"""A hundred outputs, none of which can be kept for 30 % of their sources' life: all are, by half.

Where the bucket is away, where the folder's disk does not do it, and where the sources do not
answer; with a new server in the midst of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from pydantic import SecretStr

from mediagate_sandbox.control_client import SandboxControl
from mediagate_sandbox.server import Sandbox
from mediagate_server.app import Server
from mediagate_server.config import Configuration, Settings
from tests.rpc.fake_clocks import SteppedClock
from tests.rpc.generation_waits import get_generation
from tests.rpc.media_transfers import read_output
from tests.rpc.storage_outage import (
    HALF_LIFETIME,
    OUTAGE,
    PICTURE,
    count_unarchived,
    storage,
    wait_until_asleep,
)
from tests.rpc.stubs import Stubs
from tests.sandbox_process import INSTANT

pytestmark = [pytest.mark.faults_full, pytest.mark.timeout(600)]

MANY = 100
STEP = 60
Lift = Callable[[], Awaitable[None]]


@asynccontextmanager
async def opened(
    folder: Path, upstream: Sandbox, clock: SteppedClock, settings: dict[str, Any]
) -> AsyncIterator[Stubs]:
    """A server on the folder; always the same one."""
    configured = Settings(
        grpc_address="127.0.0.1:0",
        ops_address="127.0.0.1:0",
        upstream_url=upstream.url,
        data_dir=folder / "data",
        replicate_api_token=SecretStr("r8_test_token"),
        creates_per_minute=1_000_000,
        reads_per_minute=1_000_000,
        max_in_flight=0,
        drain_seconds=1,
        **settings,
    )
    async with (
        Server(Configuration(configured), clock) as server,
        grpc.aio.insecure_channel(server.grpc_address) as channel,
    ):
        yield Stubs.on(channel)


async def archived_by_half(
    folder: Path, upstream: Sandbox, lift: Lift, settings: dict[str, Any]
) -> None:
    """All that was made while nothing could be kept."""
    clock = SteppedClock()
    async with opened(folder, upstream, clock, settings) as stubs:
        responses = [await stubs.image.GenerateImage(PICTURE) for _ in range(MANY)]
        names = [each.generation.id for each in responses]
        while clock.seconds < OUTAGE / 2:
            assert await wait_until_asleep(stubs, clock, names) == MANY
            await clock.step(STEP)
    async with opened(folder, upstream, clock, settings) as stubs:
        # A new process takes up fifty generations, and more only after a pause by the clock.
        while clock.sleeping != await count_unarchived(stubs, names):
            await clock.step(1)
        while clock.seconds < OUTAGE:
            assert await wait_until_asleep(stubs, clock, names) == MANY
            await clock.step(STEP)
        await lift()
        while left := await wait_until_asleep(stubs, clock, names):
            print(f"{clock.seconds:.0f} s: {MANY - left} of {MANY} kept")
            await clock.step(STEP)
        print(f"{clock.seconds:.0f} s: all kept; half of the life is {HALF_LIFETIME} s")
        assert clock.seconds < HALF_LIFETIME
        for name in names:
            (medium,) = (await get_generation(stubs, name)).images.images
            assert medium.id
            content = (await read_output(stubs, name))[1]
            assert hashlib.sha256(content).hexdigest() == medium.sha256


@pytest.fixture
async def upstream() -> AsyncIterator[Sandbox]:
    """A sandbox that holds nobody up."""
    async with Sandbox(INSTANT) as sandbox:
        yield sandbox


async def test_a_missing_bucket(tmp_path: Path, upstream: Sandbox, s3: str) -> None:
    """It is not there yet."""
    name = f"late-{secrets.token_hex(8)}"

    async def lift() -> None:
        assert (await asyncio.to_thread(httpx.put, f"{s3}/{name}")).status_code == 200

    await archived_by_half(tmp_path, upstream, lift, storage(s3, name))


async def test_an_unwritable_output_folder(tmp_path: Path, upstream: Sandbox) -> None:
    """There is a file where the folder of outputs is to be."""
    folder = tmp_path / "data" / "media" / "kept"
    folder.mkdir(parents=True)
    in_the_way = [folder / "outputs", folder / "outputs.notes"]
    for file in in_the_way:
        file.touch()

    async def lift() -> None:
        for file in in_the_way:
            file.unlink()

    await archived_by_half(tmp_path, upstream, lift, {})


async def test_sources_that_do_not_respond(tmp_path: Path, upstream: Sandbox) -> None:
    """Upstream's files are not to be had."""
    control = SandboxControl(upstream.url)
    await asyncio.to_thread(control.faults, {"do": "error", "on": "output", "status": 503})

    async def lift() -> None:
        await asyncio.to_thread(control.faults)

    await archived_by_half(tmp_path, upstream, lift, {})
