"""The asyncio client against a scripted server, over real gRPC."""

import asyncio
import uuid
from pathlib import Path

import grpc
import pytest

from mediagate.v1.audio_pb2 import GenerateAudioResponse
from mediagate.v1.generations_pb2 import (
    GetGenerationResponse,
    ListGenerationsResponse,
    WaitGenerationResponse,
    WatchGenerationResponse,
)
from mediagate.v1.image_pb2 import GenerateImageRequest, GenerateImageResponse
from mediagate.v1.models_pb2 import GetModelResponse, ListModelsResponse, Model
from mediagate.v1.plan_pb2 import Plan
from mediagate.v1.text_pb2 import GenerateTextResponse
from mediagate.v1.video_pb2 import GenerateVideoResponse
from mediagate_client import (
    AsyncClient,
    DeadlineExceeded,
    InvalidRequest,
    MediaTooLarge,
    RequestTooLarge,
    RetryPolicy,
    RunFailed,
    Unavailable,
    user,
)

from .rpc_statuses import status
from .sample_generations import CANCELLED, DONE, FAILED, RUNNING
from .scripted_server import HeldCall, ScriptedServer
from .stream_events import completed, delta, started, stream_events
from .stream_events import status as queued

C = grpc.StatusCode
CUT = status(C.UNAVAILABLE, message="Socket closed")


async def test_a_text_streams(async_client: AsyncClient, scripted_server: ScriptedServer) -> None:
    """Pieces as they come, the queue before, the cost after."""
    queue_positions: list[int] = []
    accepted: list[str] = []
    scripted_server.plays(
        "StreamText", started(), queued(2), delta("The ", 4), delta("sky", 7), completed(7)
    )
    stream = async_client.stream_text(
        messages=[user("Why?")],
        quality="economy",
        on_started=lambda event: accepted.append(event.generation_id),
        on_status=lambda event: queue_positions.append(event.queue_position),
    )
    assert [str(piece) async for piece in stream] == ["The ", "sky"]
    assert (accepted, queue_positions) == (["gen-1"], [2])
    assert stream.cost is not None
    assert stream.cost.usd_nanos == 12_000
    [heard] = scripted_server.heard
    assert heard.request.messages[0].parts[0].text == "Why?"
    assert str(uuid.UUID(heard.request.request_id)) == stream.request_id
    assert heard.request.options.disconnect_grace.seconds == 15
    assert heard.metadata["authorization"] == "Bearer k-1"


async def test_a_text_resumes_after_its_last_piece(
    async_client: AsyncClient, scripted_server: ScriptedServer
) -> None:
    """Cut twice, told once."""
    pieces = ["one ", "two ", "three"]
    scripted_server.plays("StreamText", list(stream_events(pieces))[:3], CUT)
    scripted_server.plays("StreamText", status(C.UNAVAILABLE, "DRAINING"))
    scripted_server.plays("StreamText", stream_events(pieces, after=8))
    assert await async_client.stream_text("Count").read() == "one two three"
    sent = scripted_server.requests_of("StreamText")
    assert [request.after_sequence for request in sent] == [0, 8, 8]
    assert len({request.request_id for request in sent}) == 1


async def test_a_text_without_completion_is_no_success(
    async_client: AsyncClient, scripted_server: ScriptedServer
) -> None:
    """As many connections as are tried that end well without `completed` are one failure."""
    tries = RetryPolicy().attempts_once_answered
    for _ in range(tries):
        scripted_server.plays("StreamText", started())
    with pytest.raises(Unavailable):
        await async_client.stream_text("Why?").read()
    assert len(scripted_server.heard) == tries


async def test_cancelling_the_reader_cancels_the_generation(
    async_client: AsyncClient, scripted_server: ScriptedServer
) -> None:
    """A task that is cancelled in mid-stream tells the server, then ends as cancelled."""
    scripted_server.plays("StreamText", started(), delta("so", 2), HeldCall())
    stream = async_client.stream_text("Why?")
    assert await anext(stream) == "so"
    reader = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await asyncio.to_thread(scripted_server.cancelled.get, timeout=20) == "gen-1"
    assert await asyncio.to_thread(scripted_server.left.get, timeout=20) == "StreamText"


async def test_leaving_a_text_cancels_it(
    async_client: AsyncClient, scripted_server: ScriptedServer
) -> None:
    """So does leaving its block."""
    scripted_server.plays("StreamText", started(), delta("so", 2), HeldCall())
    async with async_client.stream_text("Why?") as stream:
        assert await anext(stream) == "so"
    assert await asyncio.to_thread(scripted_server.cancelled.get, timeout=20) == "gen-1"
    assert [piece async for piece in stream] == []


async def test_another_task_may_close_a_text(
    async_client: AsyncClient, scripted_server: ScriptedServer
) -> None:
    """A reader that waits for a piece ends quietly, not as cancelled."""
    scripted_server.plays("StreamText", started(), delta("so", 2), HeldCall())
    stream = async_client.stream_text("Why?")
    assert await anext(stream) == "so"
    async with asyncio.TaskGroup() as group:
        rest = group.create_task(stream.read())
        await asyncio.sleep(0)
        group.create_task(stream.aclose())
    assert rest.result() == ""
    assert scripted_server.cancelled.get_nowait() == "gen-1"


async def test_a_complete_text_cancels_nothing(
    async_client: AsyncClient, scripted_server: ScriptedServer
) -> None:
    """Closing after the end is free."""
    scripted_server.plays("StreamText", stream_events(["ok"]))
    async with async_client.stream_text("Why?") as stream:
        assert await stream.read() == "ok"
    assert scripted_server.cancelled.empty()


async def test_cancelling_a_paid_call_ends_its_rpc(
    async_client: AsyncClient, scripted_server: ScriptedServer
) -> None:
    """The server sees the caller leave; the rest is up to its grace."""
    reached = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold_call(_request: object) -> HeldCall:
        loop.call_soon_threadsafe(reached.set)
        return HeldCall()

    scripted_server.plays("GenerateImage", hold_call)
    call = asyncio.create_task(async_client.generate_image("a cat"))
    await reached.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await asyncio.to_thread(scripted_server.left.get, timeout=20) == "GenerateImage"


async def test_a_billable_call_survives_a_broken_connection(
    async_client: AsyncClient, scripted_server: ScriptedServer
) -> None:
    """Sent again under the same request_id, after the pause that the server asked for."""
    scripted_server.plays("GenerateText", CUT)
    scripted_server.plays(
        "GenerateText", status(C.RESOURCE_EXHAUSTED, "QUEUE_FULL", retry_after=0.001)
    )
    scripted_server.plays("GenerateText", GenerateTextResponse(generation=DONE))
    assert await async_client.generate_text("Why?") == DONE
    first, second, third = scripted_server.requests_of("GenerateText")
    assert first == second == third


async def test_each_kind_of_medium(
    async_client: AsyncClient, scripted_server: ScriptedServer
) -> None:
    """Fields by the contract's names, with the options among them."""
    scripted_server.plays("GenerateImage", GenerateImageResponse(generation=DONE))
    scripted_server.plays("GenerateVideo", GenerateVideoResponse(generation=RUNNING))
    scripted_server.plays("GenerateAudio", GenerateAudioResponse(generation=DONE))
    await async_client.generate_image("a cat", size=(512, 256), output_format="png", count=2)
    await async_client.generate_video("waves", duration=5, resolution="720p", wait=0)
    await async_client.generate_audio(text="Good morning", kind="speech", max_cost_usd_nanos=0)
    [image] = scripted_server.requests_of("GenerateImage")
    [video] = scripted_server.requests_of("GenerateVideo")
    [audio] = scripted_server.requests_of("GenerateAudio")
    assert (image.size.width, image.size.height, image.count) == (512, 256, 2)
    assert (video.duration.seconds, video.resolution) == (5, "720p")
    assert video.HasField("wait")
    assert (audio.text, audio.prompt) == ("Good morning", "")
    assert audio.options.HasField("max_cost_usd_nanos")


async def test_waiting_and_watching(
    async_client: AsyncClient, scripted_server: ScriptedServer
) -> None:
    """Both go on after a cut, and end at the terminal state."""
    scripted_server.plays("WaitGeneration", status(C.UNAVAILABLE, "DRAINING"))
    scripted_server.plays("WaitGeneration", WaitGenerationResponse(generation=DONE))
    assert await async_client.wait("gen-1") == DONE
    scripted_server.plays(
        "WatchGeneration", WatchGenerationResponse(generation=RUNNING, sequence=3), CUT
    )
    scripted_server.plays("WatchGeneration", WatchGenerationResponse(generation=FAILED, sequence=9))
    assert [change async for change in async_client.watch("gen-1")] == [RUNNING, FAILED]
    assert [
        request.after_sequence for request in scripted_server.requests_of("WatchGeneration")
    ] == [
        0,
        3,
    ]
    scripted_server.plays("WaitGeneration", WaitGenerationResponse(generation=FAILED))
    with pytest.raises(RunFailed):
        await async_client.wait("gen-1")
    scripted_server.plays("WaitGeneration", WaitGenerationResponse(generation=RUNNING))
    assert await async_client.wait("gen-1", wait=0) == RUNNING


async def test_lists_and_models(async_client: AsyncClient, scripted_server: ScriptedServer) -> None:
    """All pages, and single things."""
    page = ListGenerationsResponse(generations=[RUNNING], next_page_token="2")
    scripted_server.plays("ListGenerations", page)
    scripted_server.plays("ListGenerations", ListGenerationsResponse(generations=[DONE]))
    assert [generation async for generation in async_client.list(labels={"team": "a"})] == [
        RUNNING,
        DONE,
    ]
    scripted_server.plays(
        "ListModels", ListModelsResponse(models=[Model(slug="a/b")], next_page_token="n")
    )
    scripted_server.plays("ListModels", ListModelsResponse(models=[Model(slug="c/d")]))
    assert [model.slug for model in await async_client.models()] == ["a/b", "c/d"]
    scripted_server.plays("GetModel", GetModelResponse(model=Model(slug="a/b")))
    assert (await async_client.model("b")).slug == "a/b"
    scripted_server.plays("GetGeneration", GetGenerationResponse(generation=DONE))
    assert await async_client.get("gen-1") == DONE
    assert (await async_client.cancel("gen-1")).state == CANCELLED.state
    scripted_server.plays("GenerateImage", GenerateImageResponse(plan=Plan(model="a/b")))
    assert (await async_client.plan(GenerateImageRequest(prompt="x"))).model == "a/b"


async def test_invalid_requests_are_not_sent(
    async_client: AsyncClient, scripted_server: ScriptedServer, tmp_path: Path
) -> None:
    """Too large, contradictory or unreadable: refused here, the field named."""
    with pytest.raises(RequestTooLarge):
        await async_client.generate_text("x" * 40_000_000)
    with pytest.raises(MediaTooLarge) as too_large:
        await async_client.generate_image("a cat", mask=b"\x89PNG\r\n\x1a\n" + bytes(3_670_016))
    with pytest.raises(InvalidRequest) as missing:
        await async_client.generate_video("waves", first_frame=tmp_path / "none.png")
    with pytest.raises(InvalidRequest) as both:
        await async_client.generate_image("a cat", size="64x64", aspect_ratio="1:1")
    errors = (too_large.value, missing.value, both.value)
    assert [error.violations[0].field for error in errors] == [
        "mask",
        "first_frame",
        "aspect_ratio",
    ]
    assert scripted_server.heard == []


async def test_a_deadline_passes(
    async_client: AsyncClient, scripted_server: ScriptedServer
) -> None:
    """rpc_timeout ends a stream that a server does not feed; it can be gone on with."""
    scripted_server.plays("StreamText", started(), HeldCall())
    with pytest.raises(DeadlineExceeded) as raised:
        await async_client.stream_text("Why?", rpc_timeout=0.05).read()
    assert raised.value.generation is None
    assert raised.value.request_id
