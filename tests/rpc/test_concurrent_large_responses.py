"""Two tenants with a large answer each, and a third whose calls go on meanwhile."""

import asyncio
import os
import time
from pathlib import Path

from mediagate.v1 import generation_pb2, generations_pb2, models_pb2
from tests.server_process import running_server

from .scripted_upstream import ScriptedUpstream
from .stubs import Stubs
from .tenant_keys import channel_of, tenant_key
from .test_large_responses import MIB, document, done, runnable, sends

NAMES = ("first", "second", "third")
FEWEST = 10
"""Calls that are answered one after the other while two times 36 MiB are read."""
VALUES = b'{"":0},' * (36 * MIB // 7)


async def ping(stubs: Stubs, over: asyncio.Event) -> list[float]:
    """A call every 20 ms until it is over; how long each took, in seconds."""
    times = []
    request = generations_pb2.ListGenerationsRequest(page_size=1)
    while not over.is_set():
        begun = time.perf_counter()
        await stubs.generations.ListGenerations(request)
        times.append(time.perf_counter() - begun)
        await asyncio.sleep(0.02)  # The rhythm of the probe, not a wait for anything.
    return sorted(times)


async def run(stubs: Stubs, request: models_pb2.RunModelRequest) -> None:
    """A run, and what it has put out."""
    generation = (await stubs.models.RunModel(request)).generation
    assert generation.state == generation_pb2.Generation.STATE_SUCCEEDED, generation.error
    assert (await document(stubs, generation.id))[1] == b"[" + VALUES + b"0]"


async def test_two_large_responses_at_once(
    scripted_upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Figures are printed; nobody's call fails or has to wait for the end of it."""
    config = tmp_path / "tenants.toml"
    keys = {f"KEY_{name}": tenant_key(name) for name in NAMES}
    config.write_text("".join(f'[tenants.{n}]\nkeys = ["env:KEY_{n}"]\n' for n in NAMES))
    pieces = [VALUES[at : at + MIB] for at in range(0, len(VALUES), MIB)]
    scripted_upstream.creates = [sends(*done(b"[")[:2], *pieces, *done(b"0]")[1:])]
    settings = {
        "MEDIAGATE_UPSTREAM_URL": scripted_upstream.url,
        "REPLICATE_API_TOKEN": "r8_test_token",
    }
    settings |= {"MEDIAGATE_CONFIG": str(config), **keys}
    with running_server(tmp_path / "gate", **settings) as server:
        channels = [channel_of(server.address, name) for name in NAMES]
        first, second, third = map(Stubs.on, channels)
        try:
            over = asyncio.Event()
            pinging = asyncio.create_task(ping(third, over))
            begun = time.perf_counter()
            await asyncio.gather(
                run(first, runnable(scripted_upstream)), run(second, runnable(scripted_upstream))
            )
            took = time.perf_counter() - begun
            over.set()
            times = await pinging
        finally:
            for channel in channels:
                await channel.close()
    p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
    print(
        f"{took:.1f} s, {len(times)} calls: p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms, "
        f"longest {times[-1] * 1e3:.0f} ms, load {os.getloadavg()[0]:.1f}"
    )
    assert len(times) >= FEWEST
