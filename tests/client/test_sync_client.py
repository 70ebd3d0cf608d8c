"""The blocking client against a scripted server, over real gRPC."""

import threading
import uuid

import grpc
import pytest

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
    Client,
    DeadlineExceeded,
    GenerationCancelled,
    InvalidRequest,
    NotBuilt,
    NotFound,
    RequestTooLarge,
    RunFailed,
    Unavailable,
)

from .rpc_statuses import status
from .sample_generations import CANCELLED, DONE, FAILED, RUNNING
from .scripted_server import HeldCall, ScriptedServer
from .stream_events import delta, started, stream_events

C = grpc.StatusCode
CUT = status(C.UNAVAILABLE, message="Socket closed")


def test_a_text_streams(client: Client, scripted_server: ScriptedServer) -> None:
    """Pieces as they come, the cost at the end, and every field where it belongs."""
    scripted_server.plays("StreamText", stream_events(["The ", "sky"]))
    stream = client.stream_text(
        "Why?", model="llama-70b", temperature=0.0, seed=0, labels={"team": "a"}, timeout=30
    )
    assert [str(piece) for piece in stream] == ["The ", "sky"]
    assert stream.completed is not None
    assert stream.completed.cost.usd_nanos == 12_000
    [heard] = scripted_server.heard
    assert heard.request.prompt == "Why?"
    assert heard.request.HasField("temperature")
    assert heard.request.HasField("seed")
    assert heard.request.options.model == "llama-70b"
    assert heard.request.options.labels == {"team": "a"}
    assert heard.request.options.timeout.seconds == 30
    assert heard.metadata["authorization"] == "Bearer k-1"
    assert str(heard.metadata["mediagate-client"]).startswith("python/")
    assert str(uuid.UUID(heard.request.request_id)) == stream.request_id
    assert heard.seconds is not None
    assert 30 < heard.seconds <= 90


def test_a_broken_stream_is_completed(client: Client, scripted_server: ScriptedServer) -> None:
    """Cut before the first word and in the middle, yet every byte is told once."""
    pieces = ["Grün", "e ", "Wiesen", " und ", "Wälder"]
    events = list(stream_events(pieces))
    scripted_server.plays("StreamText", CUT)
    scripted_server.plays("StreamText", events[:1], CUT)
    scripted_server.plays("StreamText", events[:3], CUT)
    scripted_server.plays("StreamText", events)  # a server that begins anew instead of going on
    assert client.stream_text("Dichte").read() == "".join(pieces)
    assert len({request.request_id for request in scripted_server.requests_of("StreamText")}) == 1


def test_a_text_resumes_after_its_last_piece(
    client: Client, scripted_server: ScriptedServer
) -> None:
    """The next connection asks for what comes after the last piece told."""
    pieces = ["one ", "two ", "three"]
    scripted_server.plays("StreamText", list(stream_events(pieces))[:3], CUT)
    scripted_server.plays("StreamText", stream_events(pieces, after=8))
    stream = client.stream_text("Count")
    assert [str(piece) for piece in stream] == ["one ", "two ", "three"]
    assert [request.after_sequence for request in scripted_server.requests_of("StreamText")] == [
        0,
        8,
    ]


def test_the_reason_of_a_failed_text_is_typed(
    client: Client, scripted_server: ScriptedServer
) -> None:
    """A run that failed in mid-stream is not tried again."""
    scripted_server.plays(
        "StreamText", started(), delta("so", 2), status(C.FAILED_PRECONDITION, "RUN_FAILED")
    )
    scripted_server.plays("GetGeneration", GetGenerationResponse(generation=FAILED))
    stream = client.stream_text("Why?")
    assert next(stream) == "so"
    with pytest.raises(RunFailed) as raised:
        next(stream)
    assert raised.value.request_id == stream.request_id
    assert raised.value.generation == FAILED
    assert [heard.method for heard in scripted_server.heard] == ["StreamText", "GetGeneration"]


def test_a_failure_without_its_generation_is_still_raised(
    client: Client, scripted_server: ScriptedServer
) -> None:
    """What it cost is not known then; why it failed is."""
    scripted_server.plays("StreamText", started(), status(C.FAILED_PRECONDITION, "RUN_FAILED"))
    scripted_server.plays("GetGeneration", status(C.UNAVAILABLE, "STORE_UNAVAILABLE"))
    with pytest.raises(RunFailed) as raised:
        client.stream_text("Why?").read()
    assert raised.value.generation is None


def test_leaving_a_text_cancels_it(client: Client, scripted_server: ScriptedServer) -> None:
    """The server sees the stream go, and is told by name to stop."""
    scripted_server.plays("StreamText", started(), delta("so", 2), HeldCall())
    with client.stream_text("Why?") as stream:
        assert next(stream) == "so"
    assert scripted_server.cancelled.get(timeout=20) == "gen-1"
    assert scripted_server.left.get(timeout=20) == "StreamText"
    assert list(stream) == []


def test_another_thread_may_close_a_text(client: Client, scripted_server: ScriptedServer) -> None:
    """A reader that waits for a piece ends quietly when the stream is closed elsewhere."""
    scripted_server.plays("StreamText", started(), delta("so", 2), HeldCall())
    stream = client.stream_text("Why?")
    assert next(stream) == "so"
    rest: list[str] = []
    reader = threading.Thread(target=lambda: rest.extend(stream))
    reader.start()
    stream.close()
    reader.join(20)
    assert not reader.is_alive()
    assert rest == []
    assert scripted_server.cancelled.get(timeout=20) == "gen-1"


def test_a_request_message_is_sent_unchanged(
    client: Client, scripted_server: ScriptedServer
) -> None:
    """Only what must be there is added, and the caller's own message is left alone."""
    scripted_server.plays("GenerateImage", GenerateImageResponse(generation=DONE))
    mine = GenerateImageRequest(prompt="a cat", aspect_ratio="1:1")
    assert client.generate_image(mine) == DONE
    [sent] = scripted_server.requests_of("GenerateImage")
    assert sent.request_id
    assert not mine.request_id
    assert (sent.prompt, sent.aspect_ratio) == ("a cat", "1:1")


def test_a_billable_call_survives_a_broken_connection(
    client: Client, scripted_server: ScriptedServer
) -> None:
    """Sent again under the same request_id, with time for the server to hold the run."""
    scripted_server.plays("GenerateText", CUT)
    scripted_server.plays("GenerateText", status(C.CANCELLED, message="not taken"))
    scripted_server.plays("GenerateText", GenerateTextResponse(generation=DONE))
    assert client.generate_text("Why?") == DONE
    first, second, third = scripted_server.requests_of("GenerateText")
    assert first == second == third
    assert first.options.disconnect_grace.seconds == 15


@pytest.mark.parametrize(
    ("generation", "kind"), [(FAILED, RunFailed), (CANCELLED, GenerationCancelled)]
)
def test_failed_and_cancelled_generations_raise(
    client: Client, scripted_server: ScriptedServer, generation: object, kind: type[Exception]
) -> None:
    """FAILED and CANCELLED are errors of their own kind, with the generation on them."""
    scripted_server.plays("WaitGeneration", WaitGenerationResponse(generation=generation))  # type: ignore[arg-type]
    with pytest.raises(kind) as raised:
        client.wait("gen-1")
    assert raised.value.generation == generation  # type: ignore[attr-defined]
    scripted_server.plays("WaitGeneration", WaitGenerationResponse(generation=generation))  # type: ignore[arg-type]
    assert client.wait("gen-1", raise_on_failure=False) == generation


def test_a_video_is_begun_and_watched(client: Client, scripted_server: ScriptedServer) -> None:
    """generate_video comes back at once; watch tells each change to the end."""
    scripted_server.plays("GenerateVideo", GenerateVideoResponse(generation=RUNNING))
    scripted_server.plays(
        "WatchGeneration", WatchGenerationResponse(generation=RUNNING, sequence=3), CUT
    )
    scripted_server.plays("WatchGeneration", WatchGenerationResponse(generation=DONE, sequence=9))
    video = client.generate_video("waves", duration=5, first_frame=DONE)
    assert [change.state for change in client.watch(video.id)] == [RUNNING.state, DONE.state]
    [sent] = scripted_server.requests_of("GenerateVideo")
    assert sent.duration.seconds == 5
    assert sent.first_frame.output.generation_id == "gen-1"
    assert [
        request.after_sequence for request in scripted_server.requests_of("WatchGeneration")
    ] == [
        0,
        3,
    ]


def test_lists_are_read_page_by_page(client: Client, scripted_server: ScriptedServer) -> None:
    """All pages, one request each, with the same filter."""
    first = ListGenerationsResponse(generations=[RUNNING], next_page_token="2")
    scripted_server.plays("ListGenerations", first)
    scripted_server.plays("ListGenerations", ListGenerationsResponse(generations=[DONE]))
    generations = list(client.list(states=["running", "succeeded"], modality="text", page_size=1))
    assert generations == [RUNNING, DONE]
    first_request, second_request = scripted_server.requests_of("ListGenerations")
    assert (first_request.page_token, second_request.page_token) == ("", "2")
    assert first_request.filter == second_request.filter
    assert list(first_request.filter.states) == [RUNNING.state, DONE.state]


def test_models_and_one_model(client: Client, scripted_server: ScriptedServer) -> None:
    """The catalog over all pages, and a single model by its alias."""
    scripted_server.plays(
        "ListModels", ListModelsResponse(models=[Model(slug="a/b")], next_page_token="n")
    )
    scripted_server.plays("ListModels", ListModelsResponse(models=[Model(slug="c/d")]))
    scripted_server.plays("GetModel", GetModelResponse(model=Model(slug="a/b")))
    assert [model.slug for model in client.models(modality="image")] == ["a/b", "c/d"]
    assert client.model("b").slug == "a/b"


def test_get_and_cancel(client: Client, scripted_server: ScriptedServer) -> None:
    """A failed generation can be looked at without an error; a running one can be ended."""
    scripted_server.plays("GetGeneration", GetGenerationResponse(generation=FAILED))
    assert client.get("gen-1") == FAILED
    assert client.cancel("gen-1").state == CANCELLED.state


def test_plan_spends_nothing(client: Client, scripted_server: ScriptedServer) -> None:
    """plan() asks under validate_only; the calls that make something refuse it."""
    scripted_server.plays("GenerateImage", GenerateImageResponse(plan=Plan(model="a/b")))
    request = GenerateImageRequest(prompt="a cat")
    assert client.plan(request).model == "a/b"
    assert scripted_server.requests_of("GenerateImage")[0].validate_only
    request.validate_only = True
    with pytest.raises(InvalidRequest):
        client.generate_image(request)


def test_an_oversized_message_is_refused_locally(
    client: Client, scripted_server: ScriptedServer
) -> None:
    """40 MB are not sent to find out: the typed error says how large and how large it may be."""
    with pytest.raises(RequestTooLarge) as raised:
        client.generate_text("x" * 40_000_000)
    with pytest.raises(RequestTooLarge):
        client.stream_text("x" * 40_000_000)
    assert raised.value.metadata["limit_bytes"] == str(4 * 1024 * 1024)
    assert raised.value.code is C.RESOURCE_EXHAUSTED
    assert scripted_server.heard == []


def test_unimplemented_and_not_found_differ(
    client: Client, scripted_server: ScriptedServer
) -> None:
    """UNIMPLEMENTED and NOT_FOUND are told apart."""
    scripted_server.plays("GetModel", status(C.NOT_FOUND, "MODEL_NOT_FOUND"))
    scripted_server.plays(
        "GenerateImage", status(C.UNIMPLEMENTED, "NOT_IMPLEMENTED", fields=["mask"])
    )
    with pytest.raises(NotFound):
        client.model("none")
    with pytest.raises(NotBuilt) as raised:
        client.generate_image("a cat")
    assert raised.value.violations[0].field == "mask"


def test_a_deadline_passes(client: Client, scripted_server: ScriptedServer) -> None:
    """rpc_timeout ends a call that a server does not answer."""
    scripted_server.plays("GenerateText", HeldCall())
    with pytest.raises(DeadlineExceeded) as raised:
        client.generate_text("Why?", rpc_timeout=0.05)
    assert raised.value.generation is None
    assert raised.value.request_id
    assert scripted_server.left.get(timeout=20) == "GenerateText"


def test_an_unreachable_server_is_unavailable() -> None:
    """A server that cannot be reached is Unavailable, with the request_id to come back with."""
    with Client("127.0.0.1:1") as client, pytest.raises(Unavailable) as raised:
        client.generate_text("Why?", request_id="r-1", rpc_timeout=1)
    assert raised.value.request_id == "r-1"
