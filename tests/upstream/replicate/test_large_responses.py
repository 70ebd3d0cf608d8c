"""Answers of any size: what is billed and how it ended is read, and none is ever an object."""

import asyncio
import gzip
import json
import threading
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mediagate_server.upstream.large_values import LargeValue, MediaLocations, ValueUnreadable
from mediagate_server.upstream.port import NoResponse, PredictionStatus, UnreadableResponse
from mediagate_server.upstream.replicate import large_responses
from mediagate_server.upstream.replicate.client import ReplicateClient
from mediagate_server.upstream.replicate.large_responses import LargeResponses
from mediagate_server.workers.worker_pool import WorkerPool

from .adapter_requests import Serve, settings

MIB = 1024 * 1024
NO_PREFIX: Any = {"prefix_size": 0, "prefix_sha256": ""}


def says(*pieces: bytes, packing: str = "") -> Callable[[web.BaseRequest], Any]:
    """An answer in pieces."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        if packing:
            response.headers["Content-Encoding"] = packing
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        return response

    return answer


def done(output: bytes, logs: bytes = b'""') -> tuple[bytes, ...]:
    """A prediction that has ended, its metrics behind its output as they are at Replicate."""
    return (
        b'{"id": "p1", "input": {}, "output": ',
        output,
        b', "logs": ',
        logs,
        b', "status": "succeeded", "metrics": {"predict_time": 0.1}',
        b', "completed_at": "2026-11-30T10:00:00Z"}',
    )


SMALL_VALUES = {
    "numbers": b"[" + b"0," * (2 * MIB) + b"0]",
    "strings": b"[" + b'"",' * MIB + b'""]',
    "objects": b"[" + b"{}," * MIB + b"{}]",
    "nested": b"[" * MIB + b"]" * MIB,
    "dense and small": b"[" + b"0," * 30_000 + b"0]",
}


@pytest.fixture
async def clients(tmp_path: Path) -> AsyncIterator[Callable[[str], ReplicateClient]]:
    """Clients whose large answers lie in a folder of the test's."""
    yield lambda url: ReplicateClient(settings(url, body_folder=tmp_path / "bodies"))
    assert not list((tmp_path / "bodies").iterdir())


@pytest.mark.parametrize("name", SMALL_VALUES)
async def test_an_output_of_many_small_values_is_written_to_a_file(
    name: str, serve: Serve, clients: Callable[[str], ReplicateClient], tmp_path: Path
) -> None:
    """What is billed is read; the output is written as it came, and erased with its answer."""
    async with clients(await serve(says(*done(SMALL_VALUES[name])))) as client:
        prediction = await client.get("p1")
        assert prediction.status is PredictionStatus.SUCCEEDED
        assert prediction.metrics == {"predict_time": Decimal("0.1")}
        assert prediction.completed_at is not None
        assert isinstance(prediction.output, LargeValue)
        assert not prediction.output.is_too_large
        written = await prediction.output.write_json(
            tmp_path / "out", MediaLocations((), anywhere=True)
        )
        assert (tmp_path / "out").read_bytes() == SMALL_VALUES[name]
        assert written.size == len(SMALL_VALUES[name])


async def test_text_outputs_and_logs(
    serve: Serve, clients: Callable[[str], ReplicateClient], tmp_path: Path
) -> None:
    """A list of pieces is one text; so are logs."""
    pieces = ["é", '"', "\\n", " word"] * 100_000
    logs = json.dumps("line\n" * 200_000).encode()
    answer = says(*done(json.dumps(pieces).encode(), logs))
    async with clients(await serve(answer)) as client:
        prediction = await client.get("p1")
        assert isinstance(prediction.output, LargeValue)
        assert prediction.large_logs is not None
        await prediction.output.write_text(tmp_path / "text", **NO_PREFIX)
        assert (tmp_path / "text").read_text() == "".join(pieces)
        await prediction.large_logs.write_text(tmp_path / "logs", **NO_PREFIX)
        assert (tmp_path / "logs").read_text() == "line\n" * 200_000


async def test_outputs_that_are_not_text(
    serve: Serve, clients: Callable[[str], ReplicateClient], tmp_path: Path
) -> None:
    """It is not taken for one."""
    async with clients(await serve(says(*done(b"[" + b"null," * MIB + b"null]")))) as client:
        prediction = await client.get("p1")
        assert isinstance(prediction.output, LargeValue)
        with pytest.raises(ValueUnreadable):
            await prediction.output.write_text(tmp_path / "text", **NO_PREFIX)


async def test_nested_text_is_extracted_within_a_workers_memory(
    serve: Serve,
    clients: Callable[[str], ReplicateClient],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is found in the whole value; one of more objects than fit is not read."""
    task = replace(large_responses._TEXT, memory=256 * MIB)
    monkeypatch.setattr(large_responses, "_TEXT", task)
    words = "word " * MIB
    large = json.dumps({"text": words}).encode()
    for output, text in ((large, words), (b"[" + b"[[[[[[]]]]]]," * (MIB // 2) + b"[]]", None)):
        async with clients(await serve(says(*done(output)))) as client:
            prediction = await client.get("p1")
            assert isinstance(prediction.output, LargeValue)
            if text is None:
                with pytest.raises(ValueUnreadable):
                    await prediction.output.write_text(tmp_path / "none", **NO_PREFIX)
            else:
                await prediction.output.write_text(tmp_path / "text", **NO_PREFIX)
                assert (tmp_path / "text").read_text() == text


async def test_a_small_output_with_large_logs_is_decoded_inline(
    serve: Serve, clients: Callable[[str], ReplicateClient]
) -> None:
    """It is decoded with the rest."""
    output = b'["https://replicate.delivery/a.png"]'
    logs = json.dumps("x" * MIB).encode()
    async with clients(await serve(says(*done(output, logs)))) as client:
        prediction = await client.get("p1")
        assert prediction.output == ["https://replicate.delivery/a.png"]
        assert prediction.logs.startswith("xxx")
        assert prediction.large_logs is not None


async def test_a_running_prediction_keeps_no_file(
    serve: Serve, clients: Callable[[str], ReplicateClient], tmp_path: Path
) -> None:
    """Its end brings all of it again: until then the room on the disk is others'."""
    pieces = [
        piece.replace(b'"succeeded"', b'"processing"') for piece in done(SMALL_VALUES["numbers"])
    ]
    async with clients(await serve(says(*pieces))) as client:
        prediction = await client.get("p1")
        assert prediction.status is PredictionStatus.PROCESSING
        assert prediction.output is None
        assert not list((tmp_path / "bodies").iterdir())


async def test_an_output_above_the_stored_limit_is_dropped(
    serve: Serve, clients: Callable[[str], ReplicateClient]
) -> None:
    """Beyond 64 MiB all is read but the output."""
    chunk = b"0," * (MIB // 2)
    pieces = done(b"[" + chunk)
    answer = says(*pieces[:2], *[chunk] * 64, b"0]", *pieces[2:])
    async with clients(await serve(answer)) as client:
        prediction = await client.get("p1")
        assert prediction.status is PredictionStatus.SUCCEEDED
        assert prediction.metrics == {"predict_time": Decimal("0.1")}
        assert isinstance(prediction.output, LargeValue)
        assert prediction.output.is_too_large


async def test_a_response_above_the_read_limit_is_dropped(
    serve: Serve, clients: Callable[[str], ReplicateClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing is known of it, and it is not asked for again at once."""
    monkeypatch.setattr(large_responses, "MAX_RESPONSE_BYTES", MIB)
    async with clients(await serve(says(*done(SMALL_VALUES["numbers"])))) as client:
        with pytest.raises(UnreadableResponse):
            await client.get("p1")


async def test_a_page_of_large_predictions(
    serve: Serve, clients: Callable[[str], ReplicateClient]
) -> None:
    """Of each what a list is asked for; inputs, too."""
    row = b'{"id": "%b", "input": {"prompt": "a"}, "metrics": {"predict_time": 0.5}, "output": %b}'
    rows = [row % (name, SMALL_VALUES["numbers"]) for name in (b"p1", b"p2")]
    page = b'{"results": [' + b",".join(rows) + b'], "next": "http://x/?cursor=abc"}'
    async with clients(await serve(says(page))) as client:
        page_of_predictions = await client.list_predictions()
        assert [prediction.id for prediction in page_of_predictions.predictions] == ["p1", "p2"]
        assert page_of_predictions.predictions[1].metrics == {"predict_time": Decimal("0.5")}
        assert page_of_predictions.predictions[1].input == {"prompt": "a"}
        assert page_of_predictions.predictions[1].output is None
        assert page_of_predictions.next_cursor == "abc"


async def test_a_model_with_a_large_example(
    serve: Serve, clients: Callable[[str], ReplicateClient]
) -> None:
    """Nobody asks what it has put out; its schema is there."""
    model = (
        b'{"owner": "a", "name": "b", "latest_version": {"id": "v", "openapi_schema": {"x": 1}},'
        b'"default_example": {"output": %b, "metrics": {"predict_time": 2.0}}}'
    )
    async with clients(await serve(says(model % SMALL_VALUES["numbers"]))) as client:
        published = await client.get_model("a/b")
        assert published.latest is not None
        assert published.latest.schema == {"x": 1}
        assert published.example_seconds == 2.0


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
async def test_compressed_responses(
    packing: str,
    serve: Serve,
    clients: Callable[[str], ReplicateClient],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Unpacked a little at a time, and as much is read as of others; a bomb is given up."""
    pack = gzip.compress if packing == "gzip" else zlib.compress
    fine = pack(b"".join(done(SMALL_VALUES["numbers"])))
    async with clients(await serve(says(fine, packing=packing))) as client:
        assert (await client.get("p1")).id == "p1"
    bomb = pack(b"".join(done(b"[" + b"0," * (40 * MIB) + b"0]")))
    async with clients(await serve(says(bomb, packing=packing))) as client:
        prediction = await client.get("p1")
        assert prediction.status is PredictionStatus.SUCCEEDED
        assert isinstance(prediction.output, LargeValue)
        assert prediction.output.is_too_large
        del prediction
        monkeypatch.setattr(large_responses, "MAX_RESPONSE_BYTES", 70 * MIB)
        with pytest.raises(UnreadableResponse):
            await client.get("p1")


@pytest.mark.parametrize("packing", ["br", "zstd", "gzip, br", "compress"])
async def test_unknown_content_encodings(packing: str, serve: Serve, tmp_path: Path) -> None:
    """Nothing of them is unpacked."""
    async with ReplicateClient(settings(await serve(says(b"x" * 100, packing=packing)))) as client:
        with pytest.raises(NoResponse):
            await client.get("p1")
        with pytest.raises(NoResponse):
            await client.list_predictions()


async def test_a_truncated_large_response_is_unusable(
    serve: Serve, clients: Callable[[str], ReplicateClient]
) -> None:
    """A large one that is not whole."""
    async with clients(await serve(says(*done(SMALL_VALUES["numbers"])[:2]))) as client:
        with pytest.raises(NoResponse):
            await client.get("p1")


async def test_a_late_write_never_reaches_a_reused_file_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that comes late finds its file closed, not whatever has its descriptor by then."""
    write, began, go_on, ended = (
        large_responses._write,
        threading.Event(),
        threading.Event(),
        threading.Event(),
    )

    def late(*arguments: Any) -> None:
        began.set()
        go_on.wait(30)
        try:
            write(*arguments)
        finally:
            ended.set()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * MIB

    monkeypatch.setattr(large_responses, "_write", late)
    async with WorkerPool() as workers:
        large = LargeResponses(tmp_path / "bodies", workers)
        receiving = asyncio.create_task(large.receive(b"", chunks(), 200))
        await asyncio.to_thread(began.wait, 30)
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        others = [(tmp_path / str(number)).open("wb") for number in range(8)]
        go_on.set()
        await asyncio.to_thread(ended.wait, 30)
        for file in others:
            file.close()
        assert not any((tmp_path / str(number)).stat().st_size for number in range(8))
    assert not list((tmp_path / "bodies").iterdir())
