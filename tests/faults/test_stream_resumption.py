"""A text of 400 tokens whose client, or whose server, dies all the time: no gap, no repeat.

And one prediction upstream.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from mediagate_sandbox.control_client import SandboxControl
from tests.rpc.tenant_keys import tenant_key
from tests.sandbox_process import UNLIMITED, running_sandbox

from .crashing_process import CALLER, KILLED, CrashingProcess
from .ledger_book import check_books
from .retrying_caller import CallerRecord, RetryingCaller
from .sample_requests import named, text

ROOT = Path(__file__).parents[2]
TOKENS = 400
WORD = 3
"""Bytes that a token has at least."""


@asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[tuple[CrashingProcess, SandboxControl]]:
    """A server that serves, and its upstream."""
    with running_sandbox(folder, *UNLIMITED) as sandbox:
        async with CrashingProcess.of(folder / "gate", sandbox) as server:
            server.start()
            await server.until_serving()
            yield server, sandbox


def size(file: Path) -> int:
    """Bytes that the client has."""
    return file.stat().st_size if file.exists() else 0


async def kill_the_client(folder: Path, seed: int, *, pace: int, every: int) -> None:
    """Kill it whenever `every` more tokens have come, with `pace` milliseconds between them."""
    file, deaths = folder / "text", 0
    request_id = str(UUID(int=Random(seed).getrandbits(128), version=4))
    prompt = f"[[tokens={TOKENS} interval_ms={pace}]] Hello"
    async with pair(folder) as (server, sandbox):
        reader = ("-m", "tests.faults.text_reader_process", server.address, tenant_key(CALLER))
        arguments = (*reader, request_id, prompt, str(file))
        while True:
            had = size(file)
            client = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT)
            ended = asyncio.create_task(client.wait())
            while not ended.done() and size(file) < had + every * WORD:
                await asyncio.wait({ended}, timeout=0.01)
            if ended.done():
                break
            client.kill()
            assert await ended == KILLED
            deaths += 1
        assert ended.result() == 0
        async with RetryingCaller.of(server.address) as faithful:
            (generation,) = await faithful.all_generations()
        assert file.read_text() == generation.text.text
        assert generation.usage.output_tokens == TOKENS
        assert len((await asyncio.to_thread(sandbox.bill))["entries"]) == 1
        await server.stop()
        await check_books(server.data, sandbox, [])
    print(f"{deaths} deaths of the client")
    assert deaths >= TOKENS // every // 4


async def kill_server(folder: Path, seed: int, *, pace: int, every: int) -> None:
    """End the server whenever `every` more tokens have come, by turns with SIGKILL and SIGTERM."""
    deaths, heard = 0, asyncio.Event()
    prompt = f"[[tokens={TOKENS} interval_ms={pace}]] Hello"
    record = CallerRecord(named(Random(seed), text(prompt, streamed=True)))
    async with (
        pair(folder) as (server, sandbox),
        RetryingCaller.of(server.address, heard.set) as faithful,
    ):
        call = asyncio.create_task(faithful.follow(record))
        call.add_done_callback(lambda _: heard.set())
        while not call.done():
            enough = len(record.text) + every * WORD
            while not call.done() and len(record.text) < enough:
                heard.clear()
                await heard.wait()
            if not call.done():
                await (server.stop() if deaths % 2 else server.kill())
                deaths += 1
                server.start()
        await call
        assert record.ended is not None
        assert record.ended.usage.output_tokens == TOKENS
        assert len((await asyncio.to_thread(sandbox.bill))["entries"]) == 1
        await server.stop()
        server.check_log()
        await check_books(server.data, sandbox, [record])
    print(f"{deaths} deaths of the gate")
    assert deaths >= TOKENS // every // 6


async def test_a_client_killed_every_fortieth_token(tmp_path: Path, seed: int) -> None:
    """The quick form, with a grace of 30 s."""
    await kill_the_client(tmp_path, seed, pace=12, every=40)


async def test_a_server_killed_while_streaming(tmp_path: Path, seed: int) -> None:
    """The quick form: whoever reads finds the text where it was cut."""
    await kill_server(tmp_path, seed, pace=20, every=60)


@pytest.mark.faults_full
@pytest.mark.timeout(600)
async def test_a_client_killed_every_tenth_token(tmp_path: Path, seed: int) -> None:
    """Killed about forty times."""
    await kill_the_client(tmp_path, seed, pace=150, every=10)


@pytest.mark.faults_full
@pytest.mark.timeout(600)
async def test_a_server_killed_every_tenth_token(tmp_path: Path, seed: int) -> None:
    """Killed, and asked to go, about forty times."""
    await kill_server(tmp_path, seed, pace=250, every=10)
