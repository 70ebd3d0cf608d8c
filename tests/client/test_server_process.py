"""Both faces against `mediagate serve`, a process of its own, on the sandbox."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import grpc
import pytest

from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.models_pb2 import RunModelRequest
from mediagate.v1.text_pb2 import GenerateTextRequest
from mediagate.v1.text_pb2_grpc import TextServiceStub
from mediagate_client import (
    AsyncClient,
    Client,
    GenerationCancelled,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    RequestIdReused,
    RunFailed,
    billable_request,
    media_of,
    user,
)
from tests.server_process import ServerProcess

pytestmark = pytest.mark.needs_gate


@pytest.fixture
def near(server_process: ServerProcess) -> Iterator[Client]:
    with Client(server_process.address) as client:
        yield client


@pytest.fixture
async def far(server_process: ServerProcess) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server_process.address) as client:
        yield client


async def test_concurrent_texts(far: AsyncClient) -> None:
    """Each stream is whole: its pieces add up to what the server has kept."""

    async def read_text(question: str) -> tuple[str, str]:
        stream = far.stream_text(messages=[user(question)], max_output_tokens=60)
        answer = await stream.read()
        return answer, (await far.get(stream.generation_id)).text.text

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(read_text(f"Question {number}?")) for number in range(5)]
    for number, task in enumerate(tasks):
        answer, stored = task.result()
        assert answer == stored
        assert f"Question {number}?" in answer


async def test_a_safety_check_and_a_model_run(far: AsyncClient, near: Client) -> None:
    """In both faces: what is judged, and a model's own inputs and media."""
    unsafe = near.check_safety("How do I build a bomb?").safety
    assert [category.code for category in unsafe.categories] == ["S9"]
    reply = await far.check_safety("No.", role="assistant", context="How do I build a bomb?")
    assert reply.safety.verdict == reply.safety.VERDICT_SAFE
    given = {"scale": 2, "face_enhance": True}
    media = {"image": "https://example.com/a.png"}
    for generation in (
        near.run_model("nightmareai/real-esrgan", input=given, media=media),
        await far.run_model("nightmareai/real-esrgan", input=given, media=media),
    ):
        assert len(media_of(generation)) == 1
    with pytest.raises(InvalidRequest) as refused:
        await far.run_model("nightmareai/real-esrgan", input={"scale": "much"}, media=media)
    assert [violation.field for violation in refused.value.violations] == ["input.scale"]
    flux = billable_request(
        RunModelRequest, "black-forest-labs/flux-schnell", {"input": {"prompt": "a cat"}}
    )
    plan = await far.plan(flux)
    assert plan.target == "black-forest-labs/flux-schnell"


async def test_the_text_of_any_model_is_streamed(far: AsyncClient, near: Client) -> None:
    """In both faces: the pieces add up to the output; a model that makes none has it at its end."""
    given = {"prompt": "Hello"}
    blocking = near.stream_model("snowflake/snowflake-arctic-instruct", input=given)
    assert blocking.generation is None
    begun = str(next(blocking))
    again = far.stream_model(
        "snowflake/snowflake-arctic-instruct",
        input=given,
        request_id=blocking.request_id,
        after_sequence=blocking.sequence,
    )
    pieces = [begun, *blocking]
    assert begun + await again.read() == "".join(pieces)
    assert len(pieces) > 2
    for stream in (blocking, again):
        assert stream.generation is not None
        assert stream.generation.id == stream.generation_id
        assert stream.cost == stream.generation.cost
        assert stream.usage == stream.generation.usage
    media = {"image": "https://example.com/a.png"}
    async with far.stream_model("nightmareai/real-esrgan", media=media) as silent:
        assert await silent.read() == ""
    assert silent.generation is not None
    assert len(media_of(silent.generation)) == 1


async def test_deletion_erases_a_generation(far: AsyncClient, near: Client) -> None:
    """In both faces, once it is over; its charge stays, and nobody can delete what runs."""
    for generation in (near.generate_text("Hello"), near.generate_image("A lighthouse")):
        await far.delete(generation.id)
        near.delete(generation.id)
        left = near.get(generation.id)
        assert left.HasField("erase_time")
        assert left.WhichOneof("output") is None
        assert left.cost == generation.cost
    running = await far.generate_video("[[hang]] rain")
    with pytest.raises(PreconditionFailed):
        await far.delete(running.id)
    with pytest.raises(PreconditionFailed):
        near.delete(running.id)
    await far.cancel(running.id)


async def test_a_failed_text_has_its_cost(far: AsyncClient, near: Client) -> None:
    """In both faces, and where the text came in pieces as where it came whole."""
    prompt = "[[fail_after=5]] Why?"
    with pytest.raises(RunFailed) as read_text:
        near.generate_text(prompt)
    with pytest.raises(RunFailed) as pieces:
        near.stream_text(prompt).read()
    with pytest.raises(RunFailed) as others:
        await far.stream_text(prompt).read()
    for raised in (read_text, pieces, others):
        assert raised.value.generation is not None
        assert raised.value.generation.state == Generation.STATE_FAILED
        assert raised.value.generation.cost.usd_nanos > 0


async def test_leaving_a_run_cancels_it(far: AsyncClient) -> None:
    """As with a text."""
    given = {"prompt": "[[tokens=4000 interval_ms=50]] A long story"}
    async with far.stream_model("snowflake/snowflake-arctic-instruct", input=given) as stream:
        await anext(stream)
    with pytest.raises(GenerationCancelled):
        await far.wait(stream.generation_id, wait=10)


async def test_leaving_a_text_cancels_it_for_good(far: AsyncClient) -> None:
    """Well before the grace of 15 s is over, because the server was told."""
    async with far.stream_text("A long story", max_output_tokens=4000) as stream:
        await anext(stream)
    with pytest.raises(GenerationCancelled) as raised:
        await far.wait(stream.generation_id, wait=10)
    assert raised.value.generation is not None
    assert raised.value.generation.state == Generation.STATE_CANCELLED


def test_another_client_resumes_a_text(server_process: ServerProcess, near: Client) -> None:
    """By request_id and after_sequence, without a byte lost or told twice."""
    begun = near.stream_text("Why is the sky blue?", seed=1)
    first = str(next(begun)) + str(next(begun))
    with Client(server_process.address) as other:
        rest = other.stream_text(
            "Why is the sky blue?",
            seed=1,
            request_id=begun.request_id,
            after_sequence=begun.sequence,
        ).read()
    read_text = near.wait(begun.generation_id).text.text
    assert first + rest == read_text
    assert first + begun.read() == read_text


def test_a_repeated_call_gets_the_same_generation(near: Client) -> None:
    """And another call under its name is refused."""
    generation = near.generate_text("Why?", max_output_tokens=10)
    assert (
        near.generate_text("Why?", max_output_tokens=10, request_id=generation.request_id).id
        == generation.id
    )
    with pytest.raises(RequestIdReused):
        near.generate_text("Why not?", max_output_tokens=10, request_id=generation.request_id)


def test_an_image_becomes_a_video(near: Client, tmp_path: Path) -> None:
    """Made, saved, handed on as a file, watched to its end, saved."""
    picture = near.generate_image("a cat", size=(256, 256), output_format="png")
    saved = near.download(media_of(picture)[0], tmp_path / "cat.png")
    assert saved.read_bytes().startswith(b"\x89PNG")
    video = near.generate_video("it walks", first_frame=saved)
    *_, last = near.watch(video.id)
    assert last.state == Generation.STATE_SUCCEEDED
    film = near.download(media_of(last)[0], tmp_path / "cat.mp4")
    assert film.read_bytes()[4:8] == b"ftyp"
    assert last.id in {listed.id for listed in near.list(modality="video", states=["succeeded"])}


def test_an_image_becomes_a_video_by_reference(near: Client, tmp_path: Path) -> None:
    """By its generation, or by the medium; what the server keeps is the file that was made."""
    picture = near.generate_image("a cat", size=(256, 256), output_format="png")
    [medium] = media_of(picture)
    for first_frame in (picture, medium):
        video = near.generate_video("it walks", first_frame=first_frame, wait=30)
        assert video.state == Generation.STATE_SUCCEEDED
    saved = near.download(medium, tmp_path / "cat.png").read_bytes()
    assert b"".join(near.read_media(picture)) == saved
    assert b"".join(near.read_media(medium, offset=7, limit=9)) == saved[7:16]
    assert medium.size_bytes == len(saved)
    assert medium.width == medium.height > 0


async def test_an_upload_is_an_input(far: AsyncClient, tmp_path: Path) -> None:
    """Larger than a message may be; read back as it was."""
    content = b"\x89PNG\r\n\x1a\n" + bytes(5_000_000)
    (tmp_path / "big.png").write_bytes(content)
    uploaded = await far.upload(tmp_path / "big.png")
    generation = await far.generate_image("a cat", model="flux-dev", reference_images=[uploaded])
    assert generation.state == Generation.STATE_SUCCEEDED
    assert b"".join([piece async for piece in far.read_media(uploaded)]) == content


def test_invalid_requests_raise_typed_errors(near: Client) -> None:
    """The field is named, nothing is made."""
    with pytest.raises(InvalidRequest) as raised:
        near.generate_text("Why?", temperature=9.5)
    assert [violation.field for violation in raised.value.violations] == ["temperature"]
    with pytest.raises(NotFound):
        near.generate_image("a cat", model="no-such-model")
    with pytest.raises(NotFound):
        near.get("gen_none")


def test_the_catalog(near: Client) -> None:
    """Models by kind, and one by its alias."""
    assert {model.modality for model in near.models(modality="image")} == {2}
    assert near.model("llama-70b").slug == "meta/meta-llama-3-70b-instruct"


def test_plain_grpc_refuses_an_oversized_message_late(
    server_process: ServerProcess,
) -> None:
    """What the client spares its user: 40 MB sent in vain."""
    with (
        grpc.insecure_channel(server_process.address) as channel,
        pytest.raises(grpc.RpcError) as raised,
    ):
        TextServiceStub(channel).GenerateText(GenerateTextRequest(prompt="x" * 40_000_000))
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_usage_and_charges(near: Client, far: AsyncClient) -> None:
    """Both faces tell the same; a label finds one's own, page by page."""
    mine = {"run": uuid4().hex}
    generations = [near.generate_image("a boat", model="flux-dev", labels=mine) for _ in range(3)]
    cost = sum(generation.cost.usd_nanos for generation in generations)
    (total,) = near.get_usage(labels=mine)
    assert (total.settled_usd_nanos, total.generations) == (cost, 3)
    assert await far.get_usage(labels=mine) == (total,)
    by_run = await far.get_usage(
        group_by=("label", "modality"),
        label_key="run",
        modality="image",
        models=[generations[0].model],
    )
    assert [total.settled_usd_nanos for total in by_run if total.label_value == mine["run"]] == [
        cost
    ]
    charges = list(near.list_charges(page_size=1, labels=mine))
    assert [charge.generation_id for charge in charges] == [
        charge.id for charge in reversed(generations)
    ]
    assert [charge async for charge in far.list_charges(labels=mine)] == charges
    until = charges[0].settle_time
    assert list(near.list_charges(labels=mine, end_time=until)) == charges[1:]
    with pytest.raises(InvalidRequest, match="label_key"):
        near.get_usage(group_by=["label"])
