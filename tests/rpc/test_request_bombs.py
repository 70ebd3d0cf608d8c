"""Requests that are small to send and large to look at: refused before they are decoded.

Against a server that runs as a process of its own: its memory is measured from outside.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2

from mediagate.v1 import generations_pb2, media_pb2, models_pb2, usage_pb2
from mediagate_server.api.validation.entry_limit import MAX_ENTRIES
from tests.builders import run_model_request, text_request
from tests.conftest import Missing
from tests.grpc_errors import fields_of, reason_of, rpc_error, upload_error
from tests.process_memory import Memory
from tests.server_process import ServerProcess, running_server

from .stubs import Stubs

MIB = 1024 * 1024
MOST_GROWTH = 32 * MIB
RUN = "/mediagate.v1.ModelService/RunModel"
MODEL, INPUT, MESSAGES = 10, 11, 11
"""Numbers of the fields that are encoded by hand."""
UPSTREAM = "http://127.0.0.1:9"
TEXT = "/mediagate.v1.TextService/GenerateText"


def run(**values: Any) -> bytes:
    """A run of a model with these inputs."""
    request = run_model_request("acme/any")
    request.input.update(values)
    return request.SerializeToString()


def repeated(field: int, inner: bytes, times: int) -> bytes:
    """So many of one small inner message, encoded by hand."""
    return (bytes([field << 3 | 2, len(inner)]) + inner) * times


def wrapped(field: int, content: bytes) -> bytes:
    """One inner message of any size."""
    size, length = len(content), bytearray()
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([field << 3 | 2, *length, size]) + content


def in_list(items: bytes) -> bytes:
    """A run whose one input is a list of these encoded items."""
    value = wrapped(6, items)
    return wrapped(INPUT, wrapped(1, wrapped(1, b"x") + wrapped(2, value)))


def nested(levels: int) -> bytes:
    """A run whose one input is nested so deep."""
    value = struct_pb2.Value(null_value=struct_pb2.NULL_VALUE).SerializeToString()
    for _ in range(levels):
        value = wrapped(6, wrapped(1, value))
    model = wrapped(MODEL, b"acme/any")
    return model + wrapped(INPUT, wrapped(1, wrapped(1, b"x") + wrapped(2, value)))


BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "one long key above a list": (RUN, lambda: run(**{"k" * 50_000: [None] * 20_000}), "input"),
    "a long key above as many items as may be": (
        RUN,
        lambda: run(**{"k" * 50_000: [None] * (MAX_ENTRIES - 1)}),
        f"input.{'k' * 64}",
    ),
    "200,000 keys": (RUN, lambda: run(**{f"k{n}": None for n in range(200_000)}), "input"),
    "500,000 nulls": (RUN, lambda: in_list(repeated(1, b"\x08\x00", 500_000)), "input"),
    "more inputs than any model has": (
        RUN,
        lambda: run(**{f"k{n}": None for n in range(257)}),
        "input",
    ),
    "2,000,000 values of nothing": (RUN, lambda: in_list(b"\x0a\x00" * 2_000_000), "input"),
    "250,000 parts of a message": (
        TEXT,
        lambda: wrapped(MESSAGES, b"\x08\x01" + b"\x12\x00" * 250_000),
        "messages",
    ),
    "parts in many messages": (
        TEXT,
        lambda: wrapped(MESSAGES, b"\x08\x01" + b"\x12\x00" * 1_000) * 1_000,
        "messages",
    ),
    "1,000,000 times the same field": (RUN, lambda: wrapped(MODEL, b"") * 1_000_000, "model"),
    "1,000,000 unknown fields": (RUN, lambda: b"\xfa\x01\x00" * 1_000_000, "field 31"),
    "unknown groups": (RUN, lambda: b"\xfb\x01\xfc\x01" * 1_000_000, "field 31"),
    "1,000,000 labels": (
        "/mediagate.v1.GenerationService/ListGenerations",
        lambda: wrapped(1, wrapped(4, b"") * 1_000_000),
        "filter",
    ),
    "1,000,000 states": (
        "/mediagate.v1.GenerationService/ListGenerations",
        lambda: wrapped(1, wrapped(1, b"\x01" * 1_000_000)),
        "filter",
    ),
    "2,000,000 dimensions": (
        "/mediagate.v1.UsageService/GetUsage",
        lambda: usage_pb2.GetUsageRequest(
            group_by=[usage_pb2.USAGE_DIMENSION_MODEL] * 2_000_000
        ).SerializeToString(),
        "group_by",
    ),
    "nested 2,000 deep": (RUN, lambda: nested(2_000), "request"),
    "nested too deep for JSON": (RUN, lambda: nested(40), "input"),
    "broken off": (RUN, lambda: run(x="x" * 20_000)[:-1], "request"),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server; nothing gets as far as upstream."""
    settings = {"MEDIAGATE_UPSTREAM_URL": UPSTREAM, "REPLICATE_API_TOKEN": "r8_test_token"}
    with running_server(tmp_path_factory.mktemp("gate"), **settings) as server:
        yield server


@pytest.fixture
def process(shared: ServerProcess, missing: Missing) -> ServerProcess:
    """It, where its memory can be measured."""
    if not Path("/proc/self/clear_refs").exists():
        missing("/proc/PID/clear_refs, to measure memory")
    return shared


@pytest.fixture
async def channel(process: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    """To the server. What it takes at the first call of each kind is taken."""
    async with grpc.aio.insecure_channel(process.address) as opened:
        for path in (RUN, TEXT):
            await refusal(opened, path, b"")
        yield opened


async def refusal(
    channel: grpc.aio.Channel, path: str, raw: bytes, **more: Any
) -> grpc.aio.AioRpcError:
    """The error that these bytes, sent as a request, are answered with."""
    call: Any = channel.unary_unary(path)
    return await rpc_error(call(raw, **more))


@asynccontextmanager
async def neighbour(address: str) -> AsyncIterator[list[float]]:
    """Another caller, who asks for a little again and again; how long each answer took."""
    took: list[float] = []

    async def ask(stubs: Stubs) -> None:
        while True:
            started = time.perf_counter()
            await stubs.models.ListModels(models_pb2.ListModelsRequest(page_size=1))
            took.append(time.perf_counter() - started)

    async with grpc.aio.insecure_channel(address) as channel:
        asking = asyncio.create_task(ask(Stubs.on(channel)))
        try:
            yield took
            assert not asking.done(), "the neighbour was refused"
        finally:
            asking.cancel()
            await asyncio.wait([asking])


@pytest.mark.parametrize("name", BOMBS)
async def test_decompression_and_nesting_bombs_are_refused(
    process: ServerProcess, channel: grpc.aio.Channel, name: str
) -> None:
    """By the field's name, in little memory, while another caller is served."""
    path, make, field = BOMBS[name]
    raw = make()
    assert len(raw) <= 4 * MIB
    memory = Memory(process.process.pid)
    async with neighbour(process.address) as took:
        await refusal(channel, RUN, run(x="x" * (len(raw) // 2)))  # gRPC's own buffers.
        memory.forget()
        before = memory.now()
        for _ in range(3):
            error = await refusal(channel, path, raw)
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error.details()
            assert reason_of(error) == "INVALID_REQUEST"
            assert fields_of(error) == {field}
        growth = memory.most() - before
    print(f"{name}: {growth / MIB:.1f} MiB more, slowest neighbour {max(took) * 1000:.0f} ms")
    assert growth <= MOST_GROWTH, f"{growth / MIB:.1f} MiB"


@pytest.mark.parametrize("size", [64 * 1024, 200 * 1024])
async def test_large_metadata(process: ServerProcess, channel: grpc.aio.Channel, size: int) -> None:
    """Refused by gRPC itself; the connection's other calls go on."""
    memory = Memory(process.process.pid)
    memory.forget()
    before = memory.now()
    async with neighbour(process.address):
        for _ in range(20):
            error = await refusal(channel, RUN, b"", metadata=(("x-much", "x" * size),))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert memory.most() - before <= MOST_GROWTH


async def test_compressed_bombs(process: ServerProcess, channel: grpc.aio.Channel) -> None:
    """A thousand times smaller on the wire: what may be received counts unpacked."""
    memory = Memory(process.process.pid)
    memory.forget()
    before = memory.now()
    async with neighbour(process.address) as took:
        for size, code in (
            (3 * MIB, grpc.StatusCode.INVALID_ARGUMENT),
            (5 * MIB, grpc.StatusCode.RESOURCE_EXHAUSTED),
            (256 * MIB, grpc.StatusCode.RESOURCE_EXHAUSTED),
        ):
            raw = wrapped(31, bytes(size))
            error = await refusal(channel, RUN, raw, compression=grpc.Compression.Gzip)
            assert error.code() is code, (size, error.code(), error.details())
    growth = memory.most() - before
    print(f"{growth / MIB:.1f} MiB more, slowest neighbour {max(took) * 1000:.0f} ms")
    assert growth <= MOST_GROWTH


@pytest.mark.parametrize(("chunk", "field"), [(b"", "chunk"), (b"x", "chunk")])
async def test_endless_small_chunks(
    process: ServerProcess, channel: grpc.aio.Channel, chunk: bytes, field: str
) -> None:
    """An upload of a byte a message would never end, and hold a place all the while."""
    sent = 0

    async def endless() -> AsyncIterator[media_pb2.UploadMediaRequest]:
        nonlocal sent
        sent = 0
        yield media_pb2.UploadMediaRequest(metadata=media_pb2.UploadMetadata())
        while True:
            sent += 1
            yield media_pb2.UploadMediaRequest(chunk=chunk)

    error = await upload_error(Stubs.on(channel).media.UploadMedia, endless)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields_of(error) == {field}
    assert sent < 50_000


async def test_small_chunks_of_a_small_file(
    process: ServerProcess, channel: grpc.aio.Channel
) -> None:
    """A thousand of any size are taken."""

    async def thousand() -> AsyncIterator[media_pb2.UploadMediaRequest]:
        yield media_pb2.UploadMediaRequest(metadata=media_pb2.UploadMetadata())
        for _ in range(1_000):
            yield media_pb2.UploadMediaRequest(chunk=b"x")

    uploaded = await Stubs.on(channel).media.UploadMedia(thousand())
    assert uploaded.size_bytes == 1_000


async def test_the_maximum_number_of_entries(
    process: ServerProcess, channel: grpc.aio.Channel
) -> None:
    """They are looked at, and the next check has its say."""
    stubs = Stubs.on(channel)
    request = text_request(prompt="x")
    request.options.model = "no-such-model"
    request.options.model_parameters.update({"k": [1.5] * (MAX_ENTRIES - 1)})
    error = await rpc_error(stubs.text.GenerateText(request))
    assert reason_of(error) == "MODEL_NOT_FOUND"
    request.options.model_parameters.update({"one more": 1.5})
    error = await rpc_error(stubs.text.GenerateText(request))
    assert fields_of(error) == {"options"}
    listed = await stubs.generations.ListGenerations(generations_pb2.ListGenerationsRequest())
    assert not listed.generations
