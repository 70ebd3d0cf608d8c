"""Media in large answers: what is kept of an output does not go by its size."""

import base64
import hashlib
import json
import random
from typing import Any

import pytest
from aiohttp import web
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2

from mediagate.v1 import generation_pb2, generations_pb2, image_pb2, media_pb2, medium_pb2
from tests.builders import image_request

from .scripted_upstream import ID, ScriptedUpstream
from .stubs import OpenServer, Stubs
from .test_large_responses import MIB, SMALL_VALUES, VERSION, document, done, runnable, sends

State = generation_pb2.Generation
GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
SPACE = " " * 300_000
"""Around an output: nothing changes but its size."""


def data_uri(content: bytes = GIF) -> str:
    """A picture within its link."""
    return f"data:image/gif;base64,{base64.b64encode(content).decode()}"


def picture(**options: Any) -> image_pb2.GenerateImageRequest:
    """A request for an image, priced by how many there are."""
    return image_request(prompt="x", model="flux-schnell", **options)


async def read(stubs: Stubs, generation_id: str, index: int = 0) -> bytes:
    """What is kept of a medium."""
    ref = medium_pb2.OutputRef(generation_id=generation_id, index=index)
    call = stubs.media.ReadMedia(media_pb2.ReadMediaRequest(output=ref))
    return b"".join([message.chunk async for message in call])


def info_of(status: Any) -> Any:
    """The ErrorInfo in a generation's error."""
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


@pytest.mark.parametrize("size", [MIB, 30 * MIB])
@pytest.mark.parametrize("shape", ["string", "list"])
async def test_an_image_as_a_large_data_uri(
    shape: str, size: int, scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Kept as any other, and counted for its price."""
    content = GIF + random.Random(1).randbytes(size)
    output = json.dumps(data_uri(content) if shape == "string" else [data_uri(content)])
    scripted_upstream.creates = [sends(*done(output.encode()))]
    generation = (await stubs.image.GenerateImage(picture())).generation
    assert generation.state == State.STATE_SUCCEEDED, generation.error
    (medium,) = generation.images.images
    assert (medium.media_type, medium.width, medium.uri) == ("image/gif", 1, "")
    assert medium.sha256 == hashlib.sha256(content).hexdigest()
    assert await read(stubs, generation.id) == content
    assert generation.cost.usd_nanos == 3_000_000


async def test_several_runs_with_large_data_uris(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Each image of a run of its own is read from the answer of that run."""
    contents = [GIF + bytes([number]) * 9 * MIB for number in range(2)]
    answers = [done(json.dumps([data_uri(content)]).encode()) for content in contents]
    scripted_upstream.creates = [sends(*answer) for answer in answers]

    async def again(request: web.Request) -> web.StreamResponse:
        return await sends(*answers[request.path.endswith("2")])(request)

    scripted_upstream.gets = [
        again
    ]  # Neither waits on the disk for the other: they are asked for again.
    request = picture(count=2)
    request.options.model = "flux-1.1-pro"
    generation = (await stubs.image.GenerateImage(request)).generation
    assert generation.state == State.STATE_SUCCEEDED, generation.error
    assert len(scripted_upstream.posted) == 2
    contents_read = [await read(stubs, generation.id, index) for index in range(2)]
    assert sorted(contents_read) == sorted(contents)


async def test_a_crash_while_decoding_a_large_data_uri(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """Settled already, with its number of images; the next process asks for the answer again."""
    content = GIF + bytes(20 * MIB)
    answer = sends(*done(json.dumps([data_uri(content)]).encode()))
    scripted_upstream.creates = [answer]
    request = picture()
    request.wait.seconds = 0
    async with open_server(scripted_upstream.url) as (stubs, _):
        generation = (await stubs.image.GenerateImage(request)).generation
        watch = generations_pb2.WatchGenerationRequest(id=generation.id)
        async for change in stubs.generations.WatchGeneration(watch):
            if change.generation.state == State.STATE_FINALIZING:
                assert change.generation.cost.usd_nanos == 3_000_000
                break
        else:
            pytest.fail("it was not seen before its output was read")
    scripted_upstream.gets = [answer]
    async with open_server(scripted_upstream.url) as (stubs, _):
        wait = generations_pb2.WaitGenerationRequest(id=generation.id)
        ended = (await stubs.generations.WaitGeneration(wait)).generation
        assert ended.state == State.STATE_SUCCEEDED, ended.error
        assert ended.cost.usd_nanos == 3_000_000
        assert await read(stubs, generation.id) == content


async def test_an_image_beside_oversized_logs(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """It is small: kept whatever stands beside it."""
    logs = b'"' + b"a" * (66 * MIB) + b'"'
    scripted_upstream.creates = [sends(*done(json.dumps([data_uri()]).encode(), logs))]
    generation = (await stubs.image.GenerateImage(picture())).generation
    assert generation.state == State.STATE_SUCCEEDED, generation.error
    assert await read(stubs, generation.id) == GIF


@pytest.mark.parametrize("broken", ["data:image/gif;base64,%%%%", "data:image/gif;base64", "data:"])
async def test_an_unreadable_large_data_uri(
    broken: str, scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """It is told of that medium."""
    scripted_upstream.creates = [sends(*done(json.dumps([broken + "!" * 9 * MIB]).encode()))]
    generation = (await stubs.image.GenerateImage(picture())).generation
    assert generation.state == State.STATE_SUCCEEDED
    assert generation.images.images[0].error.message


async def test_a_large_data_uri_within_an_object(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """What is left is shown as if it had been small at once."""
    content = GIF + bytes(3 * MIB)
    escaped = json.dumps({"a": [data_uri(content), 7, None], "b": "text"}).replace("/", "\\/")
    scripted_upstream.creates = [sends(*done(escaped.encode()))]
    generation = (await stubs.models.RunModel(runnable(scripted_upstream))).generation
    assert generation.state == State.STATE_SUCCEEDED, generation.error
    assert MessageToDict(generation.raw.value) == {"a": ["media:0", 7.0, None], "b": "text"}
    assert generation.raw.media[0].media_type == "image/gif"
    assert await read(stubs, generation.id) == content


def outputs(seed: int) -> list[Any]:
    """Outputs of every shape, with links and what only looks like one."""
    chance = random.Random(seed)

    def text() -> str:
        return chance.choice(
            [
                data_uri(),
                "data:text/plain,no",
                "https://replicate.delivery.example/x",
                "http://replicate.delivery/x",
                "https://\u00e9/x",
                "http://127.0.0.1:1/x.png",
                'text \\ "https://replicate.delivery/x"',
                "",
                "\U0001f600\u20ac",
            ]
        )

    def value(depth: int) -> Any:
        kind = chance.choice(["text", "text", "number", "list", "object"]) if depth else "text"
        if kind == "list":
            return [value(depth - 1) for _ in range(chance.randrange(4))]
        if kind == "object":
            names = chance.sample(["file", "files", "x", "data:;base64,", "\u00e9"], 3)
            return {name: value(depth - 1) for name in names}
        return text() if kind == "text" else chance.choice([0, 1.5, True, None])

    return [
        [text() for _ in range(4)],
        {"file": text(), "x": text(), "files": [text(), text()]},
        {"files": {"a": text(), "b": [text()]}, "file": [text()]},
        [value(4), value(3), value(2)],
        {"files": value(3), "x": value(3)},
    ]


def padded(output: Any) -> bytes:
    """The same value, large."""
    written = json.dumps(output)
    return (written[0] + SPACE + written[1:]).encode()


LINK = {"type": "string", "format": "uri"}
SCHEMAS: dict[str, dict[str, Any]] = {
    "unknown": {"title": "Output"},
    "list": {"type": "array", "items": LINK},
    "object": {
        "type": "object",
        "properties": {"file": LINK, "files": {"type": "array", "items": LINK}},
    },
    "map": {
        "type": "object",
        "properties": {"files": {"type": "object", "additionalProperties": LINK}},
    },
}


def seen(media: Any) -> list[Any]:
    """What is told of media, but for times and names of this one generation."""
    return [
        (
            medium.uri,
            medium.media_type,
            medium.sha256,
            medium.size_bytes,
            medium.width,
            medium.error.message,
        )
        for medium in media
    ]


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("seed", range(2))
async def test_padding_does_not_change_the_output(
    seed: int, schema: str, scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """The same output with a third of a megabyte of white space in it has the same media."""
    print(f"seed {seed}")
    request = runnable(scripted_upstream)
    version = scripted_upstream.models[request.model]["latest_version"]
    version["openapi_schema"]["components"]["schemas"]["Output"] = SCHEMAS[schema]
    assert version["id"] == VERSION
    for output in outputs(seed):
        scripted_upstream.creates = [sends(*done(json.dumps(output).encode()))]
        small = (await stubs.models.RunModel(request)).generation
        scripted_upstream.creates = [sends(*done(padded(output)))]
        large = (await stubs.models.RunModel(request)).generation
        assert small.state == large.state == State.STATE_SUCCEEDED, (small.error, large.error)
        assert seen(large.raw.media) == seen(small.raw.media), output
        content = json.loads((await document(stubs, large.id))[1])
        assert content == MessageToDict(small.raw.value), output
        assert large.usage == small.usage


@pytest.mark.parametrize("seed", range(2))
async def test_padding_does_not_change_media_or_price(
    seed: int, scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Neither what is kept of a model of media nor its price, whatever it has put out."""
    print(f"seed {seed}")
    for output in [[data_uri(), data_uri(), 5, [data_uri()]], *outputs(seed)]:
        scripted_upstream.creates = [sends(*done(json.dumps(output).encode()))]
        small = (await stubs.image.GenerateImage(picture())).generation
        scripted_upstream.creates = [sends(*done(padded(output)))]
        large = (await stubs.image.GenerateImage(picture())).generation
        assert large.state == small.state, output
        assert seen(large.images.images) == seen(small.images.images), output
        assert large.cost.usd_nanos == small.cost.usd_nanos, output
        assert large.error.code == small.error.code, output


PAGES = {
    f"https://replicate.com/p/{ID}": True,
    f"https://eu.replicate.com/p/{ID}": True,
    f"https://api.replicate.com/v1/predictions/{ID}": False,
    f"http://replicate.com/p/{ID}": False,
    f"https://replicate.com.example/p/{ID}": False,
    f"https://user:r8_secret@replicate.com/p/{ID}": False,
    f"https://replicate.com/p/{ID}?token=r8_secret": False,
    f"https://replicate.com/p/{ID}#r8_secret": False,
    "https://[replicate.com": False,
}


@pytest.mark.parametrize("page", PAGES)
async def test_oversized_output_is_linked_at_upstream(
    page: str, scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """By upstream's page about it, and by no other address."""
    links = json.dumps({"get": "https://api.replicate.com/x", "web": page}).encode()
    head, output, *rest = done(b"[" + b"0," * (33 * MIB) + b"0]")
    scripted_upstream.creates = [sends(head, output, b', "urls": ' + links, *rest)]
    generation = (await stubs.models.RunModel(runnable(scripted_upstream))).generation
    info = info_of(generation.error)
    assert info.reason == "OUTPUT_TOO_LARGE"
    assert info.metadata.get("prediction_url") == (page if PAGES[page] else None)
    assert "r8_" not in str(generation)


async def test_a_large_invalid_image_is_charged_as_a_small_one(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """A million objects are no picture."""
    scripted_upstream.creates = [sends(*done(SMALL_VALUES["objects"]))]
    generation = (await stubs.image.GenerateImage(picture())).generation
    assert info_of(generation.error).reason == "OUTPUT_LOST"
