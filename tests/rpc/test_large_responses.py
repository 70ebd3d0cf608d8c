"""What models put out may be of any size: settled first, kept up to 64 MiB, read in pieces."""

import json
import subprocess
from collections import Counter
from typing import Any

import pytest
from aiohttp import web
from google.rpc import error_details_pb2

from mediagate.v1 import (
    generation_pb2,
    generations_pb2,
    media_pb2,
    models_pb2,
    safety_pb2,
    text_pb2,
    verdict_pb2,
)
from mediagate_server.generations.streaming.text_buffer import TextBuffer
from mediagate_server.upstream.replicate import large_responses
from mediagate_server.workers import worker_pool
from tests.builders import image_request, run_model_request, stream_text_request, text_request
from tests.grpc_errors import reason_of, rpc_error

from .generation_waits import get_generation
from .scripted_upstream import ID, NAMED, Answer, ScriptedUpstream, hangs_up, says
from .stubs import OpenServer, Stubs

State = generation_pb2.Generation
MIB = 1024 * 1024
METRICS = {"input_token_count": 12, "output_token_count": 34, "predict_time": 1.25}
COST = 12 * 650 + 34 * 2750
SLUG = "someone/anything"
VERSION = "9dcd6d78e7c6560c340d916fe32e9f24aabfa331e5cce95fe31f77fb03121426"
OUTPUT, LOGS = media_pb2.DocumentRef.KIND_OUTPUT, media_pb2.DocumentRef.KIND_LOGS


def done(output: bytes, logs: bytes = b'""', status: str = "succeeded") -> tuple[bytes, ...]:
    """A prediction at its end, its metrics behind its output."""
    return (
        b'{"id": "%b", "output": ' % ID.encode(),
        output,
        b', "logs": ',
        logs,
        b', "status": "%b", "metrics": %b}' % (status.encode(), json.dumps(METRICS).encode()),
    )


def sends(*pieces: bytes) -> Answer:
    """Answer with these bytes, the first of which name the prediction that is asked about."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=201 if request.method == "POST" else 200)
        await response.prepare(request)
        head, *rest = pieces
        await response.write(head.replace(ID.encode(), request.get(NAMED, ID).encode()))
        for piece in rest:
            await response.write(piece)
        return response

    return answer


def text(**options: Any) -> text_pb2.GenerateTextRequest:
    """A request for a text."""
    return text_request(prompt="Hello", model="llama-70b", **options)


def runnable(scripted: ScriptedUpstream) -> models_pb2.RunModelRequest:
    """A request for a model that may put out whatever it likes."""
    schema = {
        "components": {
            "schemas": {
                "Input": {"type": "object", "properties": {}},
                "Output": {"title": "Output"},
            }
        }
    }
    scripted.models[SLUG] = {
        "owner": "someone",
        "name": "anything",
        "latest_version": {"id": VERSION, "openapi_schema": schema},
    }
    return run_model_request(SLUG)


async def document(
    stubs: Stubs, generation_id: str, kind: Any = OUTPUT, **fields: Any
) -> tuple[Any, bytes]:
    """What a document is, and its bytes."""
    request = media_pb2.ReadMediaRequest(
        document=media_pb2.DocumentRef(generation_id=generation_id, kind=kind), **fields
    )
    call = stubs.media.ReadMedia(request)
    first, *rest = [message async for message in call]
    return first.media, b"".join(message.chunk for message in rest)


@pytest.mark.parametrize("ascii_only", [True, False])
async def test_a_text_of_thirty_megabytes(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, *, ascii_only: bool
) -> None:
    """Shown by its beginning, read in pieces, listed beside others."""
    full_text = ("word \u00e9\n" * 4 * MIB)[: 30 * MIB // 9]
    scripted_upstream.creates = [
        sends(*done(json.dumps(full_text, ensure_ascii=ascii_only).encode()))
    ]
    generation = (await stubs.text.GenerateText(text())).generation
    assert generation.state == State.STATE_SUCCEEDED
    assert generation.cost.usd_nanos == COST
    assert full_text.startswith(generation.text.text)
    assert 10_000 < len(generation.text.text) < 300_000
    assert generation.text.document.size_bytes == len(full_text.encode())
    header, content = await document(stubs, generation.id)
    assert content.decode() == full_text
    assert header == generation.text.document
    assert (await document(stubs, generation.id, offset=1_000, limit=70))[1] == content[1_000:1_070]
    listed = await stubs.generations.ListGenerations(generations_pb2.ListGenerationsRequest())
    assert listed.generations[0].text == generation.text


async def test_a_text_in_many_pieces_is_shown_whole(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """A list of 50,000 tokens is more than is decoded at once, and no more text than is shown."""
    pieces = ["to", "ken", " ", "\r\n", "\r"] * 10_000
    scripted_upstream.creates = [sends(*done(json.dumps(pieces).encode()))]
    generation = (await stubs.text.GenerateText(text())).generation
    assert generation.text.text == "".join(pieces)
    assert not generation.text.HasField("document")


async def test_logs_of_thirty_megabytes(scripted_upstream: ScriptedUpstream, stubs: Stubs) -> None:
    """Beginning and end are shown; the whole is read in pieces."""
    logs = "begins\n" + "a line\n" * (30 * MIB // 7) + "ends"
    scripted_upstream.creates = [sends(*done(b'["Hi"]', json.dumps(logs).encode()))]
    generation = (await stubs.text.GenerateText(text())).generation
    assert generation.text.text == "Hi"
    generation = await get_generation(stubs, generation.id, full=True)
    assert generation.logs.startswith("begins\n")
    assert generation.logs.endswith("ends")
    assert "left out" in generation.logs
    assert len(generation.logs) < 100_000
    assert (await document(stubs, generation.id, LOGS))[1].decode() == logs
    assert not (await get_generation(stubs, generation.id)).HasField("logs_document")


async def test_logs_of_a_run_without_an_output(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """It has succeeded all the same, and what it logged is kept."""
    logs = "a line\n" * MIB
    scripted_upstream.creates = [sends(*done(b"null", json.dumps(logs).encode()))]
    generation = (await stubs.models.RunModel(runnable(scripted_upstream))).generation
    assert generation.state == State.STATE_SUCCEEDED, generation.error
    assert (await document(stubs, generation.id, LOGS))[1].decode() == logs


async def test_logs_of_a_check(scripted_upstream: ScriptedUpstream, stubs: Stubs) -> None:
    """A verdict counts, whatever else the model has said."""
    logs = json.dumps("a line\n" * MIB).encode()
    scripted_upstream.creates = [sends(*done(b'"safe"', logs))]
    request = safety_pb2.CheckSafetyRequest(content="Hello")
    generation = (await stubs.safety.CheckSafety(request)).generation
    assert generation.state == State.STATE_SUCCEEDED, generation.error
    assert generation.safety.verdict == verdict_pb2.SafetyVerdict.VERDICT_SAFE


async def test_logs_of_a_run_that_failed(scripted_upstream: ScriptedUpstream, stubs: Stubs) -> None:
    """Where it says why is at the end."""
    logs = json.dumps("a line\n" * MIB + "CUDA out of memory").encode()
    scripted_upstream.creates = [sends(*done(b"null", logs, "failed"))]
    generation = (await stubs.text.GenerateText(text())).generation
    assert generation.state == State.STATE_FAILED
    assert (await get_generation(stubs, generation.id, full=True)).logs.endswith(
        "CUDA out of memory"
    )


SMALL_VALUES = {
    "numbers": b"[" + b"0," * (12 * MIB) + b"0]",
    "objects": b"[" + b'{"":[]},' * MIB + b"{}]",
    "nested": b"[" * MIB + b"]" * MIB,
    "dense": b"[" + b"1," * 25_000 + b"1]",
}


@pytest.mark.parametrize("name", SMALL_VALUES)
async def test_an_output_of_many_small_values(
    name: str, scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Whatever JSON can say is kept as it came."""
    scripted_upstream.creates = [sends(*done(SMALL_VALUES[name]))]
    generation = (await stubs.models.RunModel(runnable(scripted_upstream))).generation
    assert generation.state == State.STATE_SUCCEEDED, generation.error
    assert not generation.raw.HasField("value")
    assert generation.raw.document.media_type == "application/json"
    assert generation.usage.run_duration.ToNanoseconds() == 1_250_000_000
    assert (await document(stubs, generation.id))[1] == SMALL_VALUES[name]


async def test_urls_in_a_large_value_are_media(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """They would die within the hour."""
    link = "https://replicate.delivery/a/b.png"
    output = json.dumps({"points": [0] * 30_000, "picture": link}).encode()
    scripted_upstream.creates = [sends(*done(output))]
    request = runnable(scripted_upstream)
    request.wait.seconds = 1
    generation = (await stubs.models.RunModel(request)).generation
    assert generation.state == State.STATE_FINALIZING


async def test_an_output_above_the_stored_limit(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Beyond 64 MiB it is paid, told so, and not asked for again."""
    chunk = b"0," * (MIB // 2)
    pieces = done(b"[")
    scripted_upstream.creates = [sends(*pieces[:2], *[chunk] * 65, b"0]", *pieces[2:])]
    generation = (await stubs.models.RunModel(runnable(scripted_upstream))).generation
    assert generation.state == State.STATE_FAILED
    assert reason_of_status(generation.error) == "OUTPUT_TOO_LARGE"
    assert generation.usage.run_duration.ToNanoseconds() == 1_250_000_000
    assert scripted_upstream.get_count == 0


def reason_of_status(status: Any) -> str:
    """The reason in a generation's error."""
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return str(info.reason)


async def test_a_large_output_that_is_not_an_image(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """A million numbers where a picture is to be: it is paid, perhaps, and it is lost."""
    scripted_upstream.creates = [sends(*done(SMALL_VALUES["objects"]))]
    request = image_request(prompt="x", model="flux-schnell")
    generation = (await stubs.image.GenerateImage(request)).generation
    assert generation.state == State.STATE_FAILED
    assert reason_of_status(generation.error) == "OUTPUT_LOST"


async def streamed(stubs: Stubs, request: text_pb2.StreamTextRequest) -> tuple[bytes, Any, int]:
    """All of a stream's text, its last event and its longest delta."""
    pieces, last, longest = [], None, 0
    async for event in stubs.text.StreamText(request):
        last = event
        pieces.append(event.delta.text.encode())
        longest = max(longest, len(pieces[-1]))
    return b"".join(pieces), last, longest


async def test_a_stream_returns_the_whole_text(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces that messages hold, never as a whole in memory; again from any place, by another
    process, too.
    """
    buffered, append = Counter[int](), TextBuffer.append

    def counted(buffer: TextBuffer, piece: str) -> None:
        buffered[id(buffer)] += len(piece)
        append(buffer, piece)

    monkeypatch.setattr(TextBuffer, "append", counted)
    full_text = "word \u00e9\U0001f600\n" * (MIB // 2)
    scripted_upstream.creates = [
        sends(*done(json.dumps([*full_text[:100], full_text[100:]]).encode()))
    ]
    request = stream_text_request(
        prompt="Hello", request_id="0b5c0b3c-7a49-4f2c-9d5c-0e8a3a1a0a10", model="llama-70b"
    )
    async with open_server(scripted_upstream.url) as (stubs, _):
        content, last, longest = await streamed(stubs, request)
        assert content.decode() == full_text
        assert last.HasField("completed")
        assert longest <= 2 * MIB
        assert last.sequence == len(content)
        assert buffered.total() < MIB
    async with open_server(scripted_upstream.url) as (stubs, _):
        request.after_sequence = 5 * 1_000 + 5
        rest, last, longest = await streamed(stubs, request)
        assert rest == content[5_005:]
        assert last.HasField("completed")
        assert longest <= 2 * MIB
        request.after_sequence = 6
        within_a_letter = await rpc_error(streamed(stubs, request))
        assert reason_of(within_a_letter) == "STREAM_EXPIRED"


async def test_a_crash_while_reading_a_large_response_is_recovered(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """Settled before anything is read: the next process asks upstream again for the output only."""
    scripted_upstream.creates = [sends(*done(SMALL_VALUES["numbers"]))]
    request = runnable(scripted_upstream)
    request.wait.seconds = 0
    async with open_server(scripted_upstream.url) as (stubs, _):
        generation = (await stubs.models.RunModel(request)).generation
        watch = generations_pb2.WatchGenerationRequest(id=generation.id)
        async for change in stubs.generations.WatchGeneration(watch):
            if change.generation.state == State.STATE_FINALIZING:
                assert change.generation.usage.run_duration.ToNanoseconds()
                break
        else:
            pytest.fail("it was not seen before its output was read")
    scripted_upstream.gets = [hangs_up(), sends(*done(SMALL_VALUES["numbers"]))]
    async with open_server(scripted_upstream.url) as (stubs, _):
        wait = generations_pb2.WaitGenerationRequest(id=generation.id)
        ended = (await stubs.generations.WaitGeneration(wait)).generation
        assert ended.state == State.STATE_SUCCEEDED
        assert (await document(stubs, generation.id))[1] == SMALL_VALUES["numbers"]


async def test_a_page_is_no_larger_than_a_message(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Of twenty texts of 250 KB it has a dozen; the next page has the rest."""
    answer = {"status": "succeeded", "output": "x" * 250_000, "metrics": METRICS}
    scripted_upstream.creates = [says({"id": ID, **answer}, 201)]
    names = [(await stubs.text.GenerateText(text())).generation.id for _ in range(20)]
    token, listed = "", []
    for _ in range(2):
        request = generations_pb2.ListGenerationsRequest(page_size=100, page_token=token)
        page = await stubs.generations.ListGenerations(request)
        assert page.ByteSize() < 4_000_000
        token = page.next_page_token
        listed += [generation.id for generation in page.generations]
    assert not token
    assert listed == names[::-1]


async def test_deleted_documents_are_gone(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Documents, too."""
    scripted_upstream.creates = [
        sends(*done(SMALL_VALUES["dense"], json.dumps("x" * MIB).encode()))
    ]
    generation = (await stubs.models.RunModel(runnable(scripted_upstream))).generation
    await document(stubs, generation.id, LOGS)
    await stubs.generations.DeleteGeneration(
        generations_pb2.DeleteGenerationRequest(id=generation.id)
    )
    for kind in (OUTPUT, LOGS):
        error = await rpc_error(document(stubs, generation.id, kind))
        assert reason_of(error) == "GENERATION_NOT_FOUND"


async def test_responses_that_crash_the_reader(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three of them, and the run counts as lost: its cost is unknown, and it is over."""
    monkeypatch.setattr(large_responses, "MAX_RESPONSE_BYTES", MIB)
    scripted_upstream.creates = [says({"id": ID, "status": "processing"}, 201)]
    scripted_upstream.gets = [sends(*done(SMALL_VALUES["numbers"]))]
    generation = (await stubs.models.RunModel(runnable(scripted_upstream))).generation
    assert generation.state == State.STATE_FAILED
    assert not generation.cost.HasField("usd_nanos")
    assert scripted_upstream.get_count == 3


async def test_worker_processes_cannot_start_temporarily(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is wrong with the answer: what is paid for is read as soon as one can."""
    full_text = "word \r\n" * MIB
    start, failing = subprocess.Popen, [*[True] * 4, False, *[True] * 4]  # To reduce; to extract.

    def starts(*arguments: Any, **options: Any) -> Any:
        if failing and failing.pop(0):
            raise BlockingIOError
        return start(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", starts)
    monkeypatch.setattr(worker_pool, "_MAX_IDLE_BYTES", 0)  # Each job needs one that is new.
    monkeypatch.setattr(large_responses, "_PAUSE", 0.0)
    scripted_upstream.creates = [says({"id": ID, "status": "processing"}, 201)]
    scripted_upstream.gets = [sends(*done(json.dumps(full_text).encode()))]
    generation = (await stubs.text.GenerateText(text())).generation
    assert generation.state == State.STATE_SUCCEEDED, generation.error
    assert generation.cost.usd_nanos == COST
    assert (await document(stubs, generation.id))[1].decode() == full_text
    assert not failing
