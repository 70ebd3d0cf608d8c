"""Billable calls that reach their own deadline: the server answers, the client says what it is."""

import inspect
from typing import Any

import pytest
from google.protobuf.message import Message

from mediagate.v1.audio_pb2 import GenerateAudioResponse
from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.image_pb2 import GenerateImageResponse
from mediagate.v1.models_pb2 import RunModelResponse
from mediagate.v1.safety_pb2 import CheckSafetyResponse
from mediagate.v1.text_pb2 import GenerateTextResponse
from mediagate.v1.video_pb2 import GenerateVideoResponse
from mediagate_client import AsyncClient, Client, DeadlineExceeded

from .sample_generations import RUNNING
from .scripted_server import ScriptedServer

WAITING: dict[str, tuple[str, type[Message]]] = {
    "generate_text": ("GenerateText", GenerateTextResponse),
    "generate_image": ("GenerateImage", GenerateImageResponse),
    "generate_audio": ("GenerateAudio", GenerateAudioResponse),
    "check_safety": ("CheckSafety", CheckSafetyResponse),
    "run_model": ("RunModel", RunModelResponse),
}
"""What waits for the end unless it is told otherwise."""
AT_ONCE: dict[str, tuple[str, type[Message]]] = {
    "generate_video": ("GenerateVideo", GenerateVideoResponse)
}
ANY = WAITING | AT_ONCE
STAGES = [state for state in Generation.State.values() if state < Generation.STATE_SUCCEEDED]


async def called(client: Client | AsyncClient, name: str, **arguments: Any) -> Generation:
    """One paid call of either face."""
    answer = getattr(client, name)("a/b", **arguments)
    generation: Generation = await answer if inspect.isawaitable(answer) else answer
    return generation


def script_generation(
    server: ScriptedServer, name: str, state: int = Generation.STATE_RUNNING
) -> Generation:
    """The server answers with a generation that is not at its end."""
    method, response = ANY[name]
    running = Generation(id=RUNNING.id, request_id="r-1", state=state)  # type: ignore[arg-type]
    server.plays(method, response(generation=running))
    return running


@pytest.fixture(params=["sync", "asyncio"])
def face(request: pytest.FixtureRequest, client: Client, async_client: AsyncClient) -> Any:
    return client if request.param == "sync" else async_client


@pytest.mark.parametrize("name", WAITING)
async def test_a_blocking_call_raises_if_the_end_is_not_reached(
    face: Client | AsyncClient, scripted_server: ScriptedServer, name: str
) -> None:
    """The error has the generation, which goes on, whether or not failures are raised."""
    for arguments in ({}, {"raise_on_failure": False}, {"rpc_timeout": 5.0}):
        running = script_generation(scripted_server, name)
        with pytest.raises(DeadlineExceeded, match=RUNNING.id) as caught:
            await called(face, name, **arguments)
        assert caught.value.generation == running
        assert caught.value.request_id == "r-1"


@pytest.mark.parametrize("name", ANY)
async def test_an_explicit_wait_returns_the_current_generation(
    face: Client | AsyncClient, scripted_server: ScriptedServer, name: str
) -> None:
    """Also none at all."""
    for wait in (0, 5):
        running = script_generation(scripted_server, name)
        assert await called(face, name, wait=wait) == running


@pytest.mark.parametrize("name", AT_ONCE)
async def test_calls_without_waiting_return_at_once(
    face: Client | AsyncClient, scripted_server: ScriptedServer, name: str
) -> None:
    """A video is begun, and gone on with by its id."""
    running = script_generation(scripted_server, name)
    assert await called(face, name) == running


@pytest.mark.parametrize("state", [state for state in STAGES if state])
async def test_deadlines_in_every_unfinished_state(
    face: Client | AsyncClient, scripted_server: ScriptedServer, state: int
) -> None:
    """Queued, in doubt, being kept: none of them is the end."""
    script_generation(scripted_server, "generate_text", state)
    with pytest.raises(DeadlineExceeded) as caught:
        await called(face, "generate_text")
    assert caught.value.generation is not None
    assert caught.value.generation.state == state
