"""DeleteGeneration, retention, stored requests, and an earlier answer that is the answer."""

import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from mediagate.v1 import (
    generation_pb2,
    generations_pb2,
    medium_pb2,
    options_pb2,
    safety_pb2,
    text_pb2,
    usage_pb2,
)
from mediagate_sandbox.files import render_file
from mediagate_sandbox.generators.spec import ImageRecipe
from mediagate_sandbox.server import Sandbox
from tests.builders import (
    audio_request,
    image_request,
    run_model_request,
    stream_text_request,
    text_request,
    video_request,
)
from tests.grpc_errors import reason_of, rpc_error

from .fake_clocks import SteppedClock
from .generation_waits import get_bill, read_stream
from .media_transfers import read_output
from .stubs import OpenServer, Stubs

State = generation_pb2.Generation
Extent = generations_pb2.RequestRecord
WAIT = Duration(seconds=30)
CANARY = "zq7-canary-of-what-was-asked"
SAID = "zq7-canary-of-what-came-out"
PICTURE = render_file(ImageRecipe("a/b", CANARY, 1, 64, 64, "png"))


def text(prompt: str = f"[[say={SAID}]] {CANARY}", **options: Any) -> text_pb2.GenerateTextRequest:
    """A request for a text."""
    return text_request(
        prompt=prompt, system_prompt=f"{CANARY} system", model="llama-70b", **options
    )


async def get_full_generation(stubs: Stubs, name: str) -> generations_pb2.GetGenerationResponse:
    """GetGeneration, with everything."""
    return await stubs.generations.GetGeneration(
        generations_pb2.GetGenerationRequest(id=name, view=generation_pb2.GENERATION_VIEW_FULL)
    )


async def erase(stubs: Stubs, name: str) -> None:
    """DeleteGeneration."""
    await stubs.generations.DeleteGeneration(generations_pb2.DeleteGenerationRequest(id=name))


def files_with(folder: Path, *canaries: bytes) -> list[str]:
    """The files of a folder with one of the canaries in them."""
    return [
        f"{file.relative_to(folder)}: {canary[:40]!r}"
        for file in folder.rglob("*")
        if file.is_file()
        for canary in canaries
        if canary in file.read_bytes()
    ]


async def all_kinds(stubs: Stubs) -> list[generation_pb2.Generation]:
    """One generation of each kind, all with canaries in them, and one that failed."""
    inline = medium_pb2.MediaInput(inline=medium_pb2.InlineMedia(data=PICTURE))
    raw = Struct()
    raw.update({"prompt": CANARY})
    streaming = stream_text_request(prompt=f"[[say={SAID}]] {CANARY}", options=text().options)
    streamed = (
        await get_full_generation(
            stubs, (await read_stream(stubs.text.StreamText(streaming)))[0].started.generation_id
        )
    ).generation
    responses: list[Any] = [
        await stubs.text.GenerateText(text()),
        await stubs.text.GenerateText(text(f"[[fail={SAID}]] {CANARY}")),
        await stubs.image.GenerateImage(
            image_request(
                prompt=CANARY,
                negative_prompt=f"no {CANARY}",
                reference_images=[inline],
                model="flux-dev",
            )
        ),
        await stubs.video.GenerateVideo(video_request(prompt=CANARY, wait=WAIT)),
        await stubs.audio.GenerateAudio(audio_request(prompt=CANARY, duration=Duration(seconds=1))),
        await stubs.safety.CheckSafety(safety_pb2.CheckSafetyRequest(content=CANARY)),
        await stubs.models.RunModel(run_model_request("black-forest-labs/flux-schnell", input=raw)),
    ]
    return [streamed, *(each.generation for each in responses)]


@pytest.mark.parametrize("store_inputs", ["none", "redacted", "full"])
async def test_deletion_erases_everything_but_the_charge(
    store_inputs: str, sandbox: Sandbox, open_server: OpenServer, tmp_path: Path
) -> None:
    """No byte of inputs or outputs is in any file, while the server runs and after; sums stand."""
    folder = tmp_path / "data"
    async with open_server(sandbox.url, store_inputs=store_inputs) as (stubs, _):
        generations = await all_kinds(stubs)
        before = await spent(stubs)
        outputs = [
            (await read_output(stubs, each.id))[1][100:160]
            for each in generations
            if each.WhichOneof("output") in ("images", "video", "audio", "raw")
        ]
        assert len(outputs) == 4
        words = [CANARY.encode(), SAID.encode(), *outputs, PICTURE[100:160]]
        assert files_with(folder, SAID.encode())
        assert all(files_with(folder, output) for output in outputs)
        for each in generations:
            await erase(stubs, each.id)
            await erase(stubs, each.id)
        assert files_with(folder, *words) == []
        for each in generations:
            left = await get_full_generation(stubs, each.id)
            assert left.generation.HasField("erase_time")
            assert not left.HasField("request")
            assert left.generation.WhichOneof("output") is None
            assert SAID not in str(left)
            assert CANARY not in str(left)
            for field in ("state", "model", "cost", "usage", "complete_time"):
                assert getattr(left.generation, field) == getattr(each, field), field
        assert await spent(stubs) == before
        bill = await get_bill(sandbox)
        assert before == sum(entry["nanos"] or 0 for entry in bill["entries"])
    assert files_with(folder, *words) == []


async def spent(stubs: Stubs) -> int:
    """All that was charged, in nano-dollars."""
    answer = await stubs.usage.GetUsage(usage_pb2.GetUsageRequest())
    return sum(total.settled_usd_nanos for total in answer.totals)


async def test_only_ended_generations_can_be_deleted(sandbox_stubs: Stubs) -> None:
    """Before, it is refused and nothing is changed; another's is not there."""
    begun = await sandbox_stubs.video.GenerateVideo(video_request(prompt="[[seconds=60]] x"))
    for name, code, reason in (
        (begun.generation.id, grpc.StatusCode.FAILED_PRECONDITION, "INVALID_REQUEST"),
        ("gen_0", grpc.StatusCode.NOT_FOUND, "GENERATION_NOT_FOUND"),
    ):
        error = await rpc_error(erase(sandbox_stubs, name))
        assert (error.code(), reason_of(error)) == (code, reason)
    left = (await get_full_generation(sandbox_stubs, begun.generation.id)).generation
    assert not left.HasField("erase_time")


async def test_deleted_generations_are_reported_as_deleted(sandbox_stubs: Stubs) -> None:
    """Its request_id stays bound: nothing runs again. Its stream is gone, and so are its media."""
    request = text(f"[[say={SAID}]] x")
    request.request_id = str(uuid.uuid4())
    stream = stream_text_request(prompt="x", request_id=str(uuid.uuid4()), options=request.options)
    started = (await read_stream(sandbox_stubs.text.StreamText(stream)))[0].started
    response = await sandbox_stubs.text.GenerateText(request)
    image = await sandbox_stubs.image.GenerateImage(image_request(prompt="x"))
    for name in (response.generation.id, started.generation_id, image.generation.id):
        await erase(sandbox_stubs, name)
    again = await sandbox_stubs.text.GenerateText(request)
    assert again.replayed
    assert again.generation.HasField("erase_time")
    assert not again.generation.HasField("text")
    error = await rpc_error(read_stream(sandbox_stubs.text.StreamText(stream)))
    assert reason_of(error) == "STREAM_EXPIRED"
    error = await rpc_error(read_output(sandbox_stubs, image.generation.id))
    assert reason_of(error) == "GENERATION_NOT_FOUND"
    request.prompt = "another"
    error = await rpc_error(sandbox_stubs.text.GenerateText(request))
    assert reason_of(error) == "REQUEST_ID_REUSED"


async def test_a_stored_request_can_be_repeated(sandbox: Sandbox, open_server: OpenServer) -> None:
    """As it is, it makes another generation of the same."""
    async with open_server(sandbox.url, store_inputs="full") as (stubs, _):
        request = image_request(
            prompt=CANARY,
            request_id=str(uuid.uuid4()),
            seed=7,
            reference_images=[medium_pb2.MediaInput(inline=medium_pb2.InlineMedia(data=PICTURE))],
            model="flux-dev",
            labels={"a": "b"},
        )
        first = await stubs.image.GenerateImage(request)
        stored = (await get_full_generation(stubs, first.generation.id)).request
        assert stored.extent == Extent.EXTENT_FULL
        request.ClearField("request_id")
        assert stored.generate_image == request
        second = await stubs.image.GenerateImage(stored.generate_image)
        assert second.generation.id != first.generation.id
        first_digest, other = (each.generation.images.images[0].sha256 for each in (first, second))
        assert first_digest == other


def requests_with_the_canary() -> list[tuple[str, str, Any]]:
    """Requests with words in every place, and numbers: service, method, request."""
    raw = Struct()
    raw.update({"prompt": CANARY, "num_outputs": 1})
    media = medium_pb2.MediaInput(uri=f"https://x.example/{CANARY}.png")
    said = text_pb2.ChatMessage(
        role=text_pb2.ChatMessage.ROLE_USER, parts=[text_pb2.ChatPart(text=CANARY)]
    )
    chat = text_pb2.GenerateTextRequest(messages=[said], stop_sequences=[CANARY], temperature=0.5)
    picture = image_request(prompt=CANARY, aspect_ratio="16:9", reference_images=[media, media])
    run = run_model_request("black-forest-labs/flux-schnell", input=raw)
    return [
        ("text", "GenerateText", text(labels={"team": "a"})),
        ("text", "GenerateText", chat),
        ("image", "GenerateImage", picture),
        ("models", "RunModel", run),
    ]


async def test_a_redacted_request_has_no_content(sandbox: Sandbox, open_server: OpenServer) -> None:
    """Model, numbers and options are there; of every text its length, of media nothing."""
    requests = requests_with_the_canary()
    seen = []
    async with open_server(sandbox.url, store_inputs="redacted") as (stubs, _):
        for service, method, request in requests:
            response = await getattr(getattr(stubs, service), method)(request)
            seen.append((await get_full_generation(stubs, response.generation.id)).request)
    for stored in seen:
        assert stored.extent == Extent.EXTENT_REDACTED
        assert CANARY not in str(stored)
    first = requests[0][2]
    assert seen[0].generate_text.prompt == f"[{len(first.prompt)} characters]"
    assert seen[0].generate_text.options == first.options
    assert seen[1].generate_text.messages[0].parts[0].text == f"[{len(CANARY)} characters]"
    assert seen[1].generate_text.stop_sequences == [f"[{len(CANARY)} characters]"]
    assert seen[1].generate_text.temperature == 0.5
    assert seen[2].generate_image.aspect_ratio == "16:9"
    assert not seen[2].generate_image.reference_images
    assert seen[3].run_model.input["num_outputs"] == 1
    assert seen[3].run_model.model == "black-forest-labs/flux-schnell"


async def test_expired_data_is_deleted(
    sandbox: Sandbox, open_server: OpenServer, tmp_path: Path
) -> None:
    """Texts, media and requests, also what an earlier process left."""
    clock = SteppedClock()
    async with open_server(sandbox.url, clock=clock, store_inputs="full") as (stubs, _):
        generations = await all_kinds(stubs)
    await clock.step(31 * 86_400)
    async with open_server(sandbox.url, clock=clock) as (stubs, _):
        for each in generations:
            while not (await get_full_generation(stubs, each.id)).generation.HasField("erase_time"):
                pass
            assert not (await get_full_generation(stubs, each.id)).HasField("request")
    assert files_with(tmp_path / "data", CANARY.encode(), SAID.encode()) == []


async def test_an_undeletable_medium_does_not_block_other_deletions(
    sandbox: Sandbox, open_server: OpenServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is newer goes; the one is named, still there to be read, and goes once it can."""
    clock = SteppedClock()
    request = image_request(prompt=CANARY)
    async with open_server(sandbox.url, clock=clock) as (stubs, _):
        stuck, *others = [
            (await stubs.image.GenerateImage(request)).generation.id for _ in range(3)
        ]
        others.append((await stubs.text.GenerateText(text())).generation.id)
    folder = tmp_path / "data" / "media" / "kept" / "outputs" / stuck
    elsewhere = folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(elsewhere)  # No folder that could be removed, whoever runs this.
    await clock.step(31 * 86_400)
    capsys.readouterr()
    async with open_server(sandbox.url, clock=clock) as (stubs, _):
        for name in others:
            while not (await get_full_generation(stubs, name)).generation.HasField("erase_time"):
                pass
        assert not (await get_full_generation(stubs, stuck)).generation.HasField("erase_time")
        assert (await read_output(stubs, stuck))[1]
        error = await rpc_error(erase(stubs, stuck))
        assert reason_of(error) == "OUTPUT_STORE_FAILED"
    folder.unlink()
    elsewhere.rename(folder)
    async with open_server(sandbox.url, clock=clock) as (stubs, _):
        while not (await get_full_generation(stubs, stuck)).generation.HasField("erase_time"):
            pass
    output = capsys.readouterr().out
    assert [
        line
        for line in output.splitlines()
        if stuck in line and "expired_content_erase_failed" in line
    ]
    assert CANARY not in output
    assert not folder.exists()


async def test_a_reusable_generation_is_returned(sandbox: Sandbox, open_server: OpenServer) -> None:
    """Where it asked for the same and is not too old; nothing is sent, nothing is paid."""
    clock = SteppedClock()
    hour = Duration(seconds=3_600)
    async with open_server(sandbox.url, clock=clock) as (stubs, _):
        first = await stubs.text.GenerateText(text(labels={"a": "b"}))
        same = text(reuse_within=hour, labels={"c": "d"})
        same.request_id = str(uuid.uuid4())
        for _ in range(2):
            again = await stubs.text.GenerateText(same)
            assert again.replayed
            assert again.generation == first.generation
        ever = Duration(seconds=315_576_000_000)  # The longest there is: 10,000 years.
        assert (await stubs.text.GenerateText(text(reuse_within=ever))).replayed
        stream = stream_text_request(prompt=same.prompt, options=same.options)
        fresh = await read_stream(stubs.text.StreamText(stream))
        assert not fresh[0].started.replayed  # Another rpc, so another request.
        replayed = await read_stream(stubs.text.StreamText(stream))
        assert replayed[0].started.replayed
        for events in (fresh, replayed):
            assert "".join(each.delta.text for each in events) == SAID
        others = [text("another", reuse_within=hour), text()]
        warmer = text(reuse_within=hour)
        warmer.temperature = 0.5
        for other in (*others, warmer):
            assert not (await stubs.text.GenerateText(other)).replayed
        none = options_pb2.FallbackPolicy(mode=options_pb2.FallbackPolicy.MODE_NONE)
        failing = text("[[fail]] x", reuse_within=hour, fallback=none)
        names = {(await stubs.text.GenerateText(failing)).generation.id for _ in range(2)}
        assert len(names) == 2
        await clock.step(3_700)
        late = await stubs.text.GenerateText(text("another", reuse_within=hour))
        assert not late.replayed
        await erase(stubs, late.generation.id)
        assert not (await stubs.text.GenerateText(text("another", reuse_within=hour))).replayed
    bill = await get_bill(sandbox)
    assert bill["predictions"] == 9


async def test_images_are_reused_while_they_are_stored(sandbox_stubs: Stubs) -> None:
    """Kept, so also after upstream's link is over."""
    hour = Duration(seconds=3_600)
    request = image_request(prompt="x", reuse_within=hour)
    first = await sandbox_stubs.image.GenerateImage(request)
    again = await sandbox_stubs.image.GenerateImage(request)
    assert (first.replayed, again.replayed) == (False, True)
    assert again.generation.images.images[0].sha256 == first.generation.images.images[0].sha256
