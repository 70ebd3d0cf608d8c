"""The blocking client's tries, deadlines and resumption, on a fake channel and a fake clock."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc_testing
import pytest

from mediagate.v1 import (
    audio_pb2,
    generations_pb2,
    image_pb2,
    media_pb2,
    models_pb2,
    text_pb2,
    video_pb2,
)
from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.generations_pb2 import (
    CancelGenerationResponse,
    WaitGenerationResponse,
    WatchGenerationResponse,
)
from mediagate.v1.image_pb2 import GenerateImageResponse
from mediagate.v1.models_pb2 import GetModelResponse
from mediagate_client import (
    Calls,
    Client,
    DeadlineExceeded,
    InvalidRequest,
    RateLimited,
    RetryPolicy,
    RunFailed,
    StreamLost,
    Unavailable,
)

from .rpc_statuses import status, trailing
from .stream_events import GENERATION, completed, delta, started
from .stream_events import status as queued

C = grpc.StatusCode
FILES = (audio_pb2, generations_pb2, image_pb2, media_pb2, models_pb2, text_pb2, video_pb2)
SERVICES = {
    service.name: service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()
}
DONE = Generation(id=GENERATION, state=Generation.STATE_SUCCEEDED)
RUNNING = Generation(id=GENERATION, state=Generation.STATE_RUNNING)


@dataclass
class FakeChannelServer:
    """The far end of a fake channel: takes the client's calls one by one and answers them."""

    channel: grpc_testing.Channel
    time: grpc_testing.Time
    slept: list[float] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time.sleep_for(seconds)

    def client(self) -> Client:
        policy = RetryPolicy(
            max_attempts=4, attempts_while_unreachable=4, initial_delay=1.0, max_delay=8.0
        )
        calls = Calls(
            metadata=(("authorization", "Bearer k"),),
            policy=policy,
            clock=self.time.time,
            sleep=self.sleep,
            random_source=lambda: 1.0,
        )
        return Client(channel=self.channel, calls=calls)

    def unary(self, service: str, method: str) -> tuple[Any, grpc_testing.UnaryUnaryChannelRpc]:
        descriptor = SERVICES[service].methods_by_name[method]
        metadata, request, rpc = self.channel.take_unary_unary(descriptor)
        self.keys.append(dict(metadata)["authorization"])
        return request, rpc

    def stream(self, service: str, method: str) -> tuple[Any, grpc_testing.UnaryStreamChannelRpc]:
        descriptor = SERVICES[service].methods_by_name[method]
        metadata, request, rpc = self.channel.take_unary_stream(descriptor)
        self.keys.append(dict(metadata)["authorization"])
        return request, rpc


def fail(rpc: Any, code: C, reason: str = "", *, retry_after: float | None = None) -> None:
    failure_status = status(code, reason, retry_after=retry_after)
    answer = (trailing(failure_status), code, failure_status.message)
    if isinstance(rpc, grpc_testing.UnaryUnaryChannelRpc):
        rpc.terminate(None, *answer)
    else:
        rpc.terminate(*answer)


@pytest.fixture
def fake_server() -> FakeChannelServer:
    time = grpc_testing.strict_fake_time(1000.0)
    return FakeChannelServer(grpc_testing.channel(list(SERVICES.values()), time), time)


@pytest.fixture
def background() -> Iterator[Callable[..., "Future[Any]"]]:
    """Runs the caller's side while the test plays the server."""
    with ThreadPoolExecutor(2) as pool:
        yield pool.submit


def test_a_billable_call_is_retried_with_its_request_id(
    fake_server: FakeChannelServer, background: Any
) -> None:
    """Three failures, growing pauses, and each time the very same request."""
    call = background(fake_server.client().generate_image, "a cat", seed=0, model="flux-dev")
    requests = []
    for reason in ("DRAINING", "", "STORE_UNAVAILABLE"):
        request, rpc = fake_server.unary("ImageService", "GenerateImage")
        requests.append(request)
        fail(rpc, C.UNAVAILABLE, reason)
    request, rpc = fake_server.unary("ImageService", "GenerateImage")
    rpc.terminate(GenerateImageResponse(generation=DONE), (), C.OK, "")
    assert call.result() == DONE
    assert len(request.request_id) == 36
    assert requests == [request] * 3
    assert fake_server.slept == [1.0, 2.0, 4.0]
    assert fake_server.keys == ["Bearer k"] * 4
    assert request.HasField("seed")


def test_a_refusal_is_not_retried(fake_server: FakeChannelServer, background: Any) -> None:
    """What is wrong stays wrong; the error names the field and the call."""
    call = background(fake_server.client().generate_image, "", request_id="mine")
    _, rpc = fake_server.unary("ImageService", "GenerateImage")
    failure_status = status(C.INVALID_ARGUMENT, "INVALID_REQUEST", fields=["prompt"])
    rpc.terminate(None, trailing(failure_status), C.INVALID_ARGUMENT, "no")
    error = call.exception()
    assert isinstance(error, InvalidRequest)
    assert [v.field for v in error.violations] == ["prompt"]
    assert error.request_id == "mine"
    assert fake_server.slept == []


def test_the_servers_retry_delay_is_respected(
    fake_server: FakeChannelServer, background: Any
) -> None:
    """RetryInfo decides where it asks for more than the client would wait."""
    call = background(fake_server.client().generate_image, "a cat")
    _, rpc = fake_server.unary("ImageService", "GenerateImage")
    fail(rpc, C.RESOURCE_EXHAUSTED, "RATE_LIMITED", retry_after=20)
    _, rpc = fake_server.unary("ImageService", "GenerateImage")
    rpc.terminate(GenerateImageResponse(generation=DONE), (), C.OK, "")
    assert call.result() == DONE
    assert fake_server.slept == [22.0]


def test_retries_end_before_the_deadline(fake_server: FakeChannelServer, background: Any) -> None:
    """A pause that ends after rpc_timeout is not begun: the failure comes while it is of use."""
    call = background(fake_server.client().generate_image, "a cat", rpc_timeout=10)
    _, rpc = fake_server.unary("ImageService", "GenerateImage")
    fail(rpc, C.RESOURCE_EXHAUSTED, "RATE_LIMITED", retry_after=9.5)
    error = call.exception()
    assert isinstance(error, RateLimited)
    assert error.retry_after == 9.5
    assert fake_server.slept == []


def test_retries_end_after_max_attempts(fake_server: FakeChannelServer, background: Any) -> None:
    """A server that stays away is reported as such, after max_attempts calls."""
    call = background(fake_server.client().generate_image, "a cat")
    for _ in range(4):
        _, rpc = fake_server.unary("ImageService", "GenerateImage")
        fail(rpc, C.UNAVAILABLE, "DRAINING")
    assert isinstance(call.exception(), Unavailable)
    assert fake_server.slept == [1.0, 2.0, 4.0]


def test_the_deadline_bounds_all_attempts(fake_server: FakeChannelServer, background: Any) -> None:
    """The deadline bounds all tries together, not each of them."""
    call = background(fake_server.client().generate_image, "a cat", rpc_timeout=10)
    for seconds in (6.0, 2.0):
        _, rpc = fake_server.unary("ImageService", "GenerateImage")
        fake_server.time.sleep_for(seconds)
        fail(rpc, C.UNAVAILABLE, "DRAINING")
    assert isinstance(call.exception(), Unavailable)
    assert fake_server.slept == [1.0]


def test_a_failed_generation_raises_unless_told_otherwise(
    fake_server: FakeChannelServer, background: Any
) -> None:
    """The rpc was OK, the run was not: the typed error carries the generation with its cost."""
    failed = Generation(
        id=GENERATION,
        state=Generation.STATE_FAILED,
        error=status(C.FAILED_PRECONDITION, "RUN_FAILED"),
    )
    client = fake_server.client()
    for arguments, kind in (({}, RunFailed), ({"raise_on_failure": False}, type(None))):
        call = background(client.generate_image, "a cat", **arguments)
        _, rpc = fake_server.unary("ImageService", "GenerateImage")
        rpc.terminate(GenerateImageResponse(generation=failed), (), C.OK, "")
        error = call.exception()
        assert isinstance(error, kind)
        assert (error.generation if error else call.result()) == failed


def test_reads_are_retried_by_the_client_only(
    fake_server: FakeChannelServer, background: Any
) -> None:
    """By the same rule as what is paid: the channel, whose patience is another, does not retry."""
    call = background(fake_server.client().model, "sdxl")
    _, rpc = fake_server.unary("ModelService", "GetModel")
    fail(rpc, C.UNAVAILABLE, "DRAINING")
    request, rpc = fake_server.unary("ModelService", "GetModel")
    rpc.terminate(GetModelResponse(model=models_pb2.Model(slug="a/b")), (), C.OK, "")
    assert request.model == "sdxl"
    assert fake_server.slept == [1.0]
    assert call.result().slug == "a/b"


def test_a_broken_stream_resumes_at_its_position(
    fake_server: FakeChannelServer, background: Any
) -> None:
    """The same request with after_sequence, the pieces in a row, and progress resets the tries."""
    stream = fake_server.client().stream_text("Why?", model="llama-70b")
    heard = background(next, stream)
    request, rpc = fake_server.stream("TextService", "StreamText")
    assert request.after_sequence == 0
    assert request.options.disconnect_grace.seconds == 15
    rpc.send_response(started())
    rpc.send_response(delta("a", 1))
    assert heard.result() == "a"
    for end in (2, 3, 4, 5, 6):
        heard = background(next, stream)
        fail(rpc, C.UNAVAILABLE, "DRAINING")
        resumed, rpc = fake_server.stream("TextService", "StreamText")
        assert resumed.after_sequence == end - 1
        resumed.after_sequence = 0
        assert resumed == request
        rpc.send_response(started(sequence=end - 1))
        rpc.send_response(delta(str(end), end))
        assert heard.result() == str(end)
    rest = background(list, stream)
    rpc.send_response(completed(6))
    rpc.terminate((), C.OK, "")
    assert rest.result() == []
    assert fake_server.slept == [1.0] * 5
    assert stream.cost is not None
    assert stream.cost.usd_nanos == 12_000
    assert stream.usage is not None
    assert stream.started is not None
    assert stream.request_id == request.request_id


def test_a_text_without_completion_is_no_success(
    fake_server: FakeChannelServer, background: Any
) -> None:
    """A stream that ends well but too early is resumed, and after enough tries reported."""
    stream = fake_server.client().stream_text("Why?")
    heard = background(lambda: list(stream))
    for _ in range(RetryPolicy().attempts_once_answered):
        _, rpc = fake_server.stream("TextService", "StreamText")
        rpc.send_response(started())
        rpc.terminate((), C.OK, "")
    error = heard.exception()
    assert isinstance(error, Unavailable)
    assert error.request_id == stream.request_id
    assert stream.completed is None


def test_an_expired_stream_is_not_retried(fake_server: FakeChannelServer, background: Any) -> None:
    """STREAM_EXPIRED ends it, and every later read says that it is over."""
    stream = fake_server.client().stream_text("Why?")
    heard = background(lambda: list(stream))
    _, rpc = fake_server.stream("TextService", "StreamText")
    fail(rpc, C.OUT_OF_RANGE, "STREAM_EXPIRED")
    assert isinstance(heard.exception(), StreamLost)
    assert list(stream) == []


def test_a_text_has_a_deadline_over_all_connections(
    fake_server: FakeChannelServer, background: Any
) -> None:
    """rpc_timeout is over while the server is away: the failure is told at once."""
    stream = fake_server.client().stream_text("Why?", rpc_timeout=30)
    heard = background(lambda: list(stream))
    _, rpc = fake_server.stream("TextService", "StreamText")
    fake_server.time.sleep_for(29.5)
    fail(rpc, C.UNAVAILABLE)
    assert isinstance(heard.exception(), Unavailable)
    assert fake_server.slept == []


def test_the_queue_position_is_reported(fake_server: FakeChannelServer, background: Any) -> None:
    """While a text has not begun its caller can show its place."""
    queue_positions: list[int] = []
    stream = fake_server.client().stream_text(
        "Why?", on_status=lambda event: queue_positions.append(event.queue_position)
    )
    heard = background(stream.read)
    _, rpc = fake_server.stream("TextService", "StreamText")
    for message in (started(), queued(2), queued(1), delta("ok", 2), completed(2)):
        rpc.send_response(message)
    rpc.terminate((), C.OK, "")
    assert heard.result() == "ok"
    assert queue_positions == [2, 1]


def test_closing_early_cancels(fake_server: FakeChannelServer, background: Any) -> None:
    """Leaving the block before the end tells the server so, by the generation's id."""

    def leave_after_the_first() -> str:
        with fake_server.client().stream_text("Why?") as stream:
            return next(stream)

    heard = background(leave_after_the_first)
    _, rpc = fake_server.stream("TextService", "StreamText")
    rpc.send_response(started())
    rpc.send_response(delta("so", 2))
    rpc.cancelled()
    request, rpc = fake_server.unary("GenerationService", "CancelGeneration")
    assert request.id == GENERATION
    rpc.terminate(CancelGenerationResponse(), (), C.OK, "")
    assert heard.result() == "so"


def test_closing_ignores_an_unreachable_server(
    fake_server: FakeChannelServer, background: Any
) -> None:
    """A server that cannot be told finds out by itself; the caller's own way out stays clear."""

    def leave_after_the_first() -> str:
        with fake_server.client().stream_text("Why?") as stream:
            return next(stream)

    heard = background(leave_after_the_first)
    _, rpc = fake_server.stream("TextService", "StreamText")
    rpc.send_response(started())
    rpc.send_response(delta("so", 2))
    _, rpc = fake_server.unary("GenerationService", "CancelGeneration")
    fail(rpc, C.UNAVAILABLE)
    assert heard.result() == "so"


def test_closing_a_complete_text_cancels_nothing(
    fake_server: FakeChannelServer, background: Any
) -> None:
    """After the end there is nothing to cancel: no call is made."""
    client = fake_server.client()
    stream = client.stream_text("Why?")
    heard = background(stream.read)
    _, rpc = fake_server.stream("TextService", "StreamText")
    for message in (started(), delta("ok", 2), completed(2)):
        rpc.send_response(message)
    rpc.terminate((), C.OK, "")
    assert heard.result() == "ok"
    stream.close()  # would block for ever on a call that nobody takes


def test_waiting_is_split_into_calls(fake_server: FakeChannelServer, background: Any) -> None:
    """A wait of minutes is several calls, and a server that restarts meanwhile is waited for."""
    call = background(fake_server.client().wait, GENERATION)
    request, rpc = fake_server.unary("GenerationService", "WaitGeneration")
    assert (request.id, request.wait.seconds) == (GENERATION, 300)
    rpc.terminate(WaitGenerationResponse(generation=RUNNING), (), C.OK, "")
    _, rpc = fake_server.unary("GenerationService", "WaitGeneration")
    fail(rpc, C.UNAVAILABLE, "DRAINING", retry_after=3)
    _, rpc = fake_server.unary("GenerationService", "WaitGeneration")
    rpc.terminate(WaitGenerationResponse(generation=DONE), (), C.OK, "")
    assert call.result() == DONE
    assert fake_server.slept == pytest.approx([0.2, 3.3])


def test_waiting_is_bounded(fake_server: FakeChannelServer, background: Any) -> None:
    """After `wait` the generation comes back as it stands."""
    call = background(fake_server.client().wait, GENERATION, wait=10)
    request, rpc = fake_server.unary("GenerationService", "WaitGeneration")
    assert request.wait.seconds == 10
    fake_server.time.sleep_for(10)
    rpc.terminate(WaitGenerationResponse(generation=RUNNING), (), C.OK, "")
    assert call.result() == RUNNING


def test_a_broken_watch_resumes_at_its_position(
    fake_server: FakeChannelServer, background: Any
) -> None:
    """Every change once, over all connections, to the terminal state."""
    changes = fake_server.client().watch(GENERATION)
    seen = background(next, changes)
    request, rpc = fake_server.stream("GenerationService", "WatchGeneration")
    assert request.after_sequence == 0
    rpc.send_response(WatchGenerationResponse(generation=RUNNING, sequence=5))
    assert seen.result() == RUNNING
    rest = background(list, changes)
    fail(rpc, C.UNAVAILABLE)
    request, rpc = fake_server.stream("GenerationService", "WatchGeneration")
    assert request.after_sequence == 5
    rpc.send_response(WatchGenerationResponse(generation=RUNNING, sequence=5))
    rpc.send_response(WatchGenerationResponse(generation=DONE, sequence=8))
    rpc.terminate((), C.OK, "")
    assert rest.result() == [DONE]
    assert fake_server.slept == [1.0]


def test_an_expired_deadline_is_raised_before_sending(fake_server: FakeChannelServer) -> None:
    """A call without time is not made at all."""
    with pytest.raises(DeadlineExceeded):
        fake_server.client().generate_image("a cat", rpc_timeout=0)
