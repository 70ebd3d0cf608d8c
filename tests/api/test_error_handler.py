"""Whatever goes wrong in a handler, callers get one well-formed status and no word of ours."""

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details
from structlog.testing import capture_logs

from mediagate.v1 import text_pb2_grpc
from mediagate_server.errors import ContentBlocked, MediagateError, RateLimited
from tests.builders import stream_text_request, text_request
from tests.grpc_errors import detail_of, reason_of, rpc_error

from .conftest import InterceptorServer, Start
from .fake_servicers import Texts

PROMPT = "a prompt that nobody else may read"


def calls(server: InterceptorServer) -> Iterator[Any]:
    """A unary call; then, once that is over, a stream which fails after its deltas."""
    stub: Any = text_pb2_grpc.TextServiceStub(server.channel)
    yield stub.GenerateText(text_request(prompt=PROMPT))
    yield stub.StreamText(stream_text_request(prompt=PROMPT))


def raising(error: BaseException) -> Texts:
    """A servicer whose every rpc fails with `error`."""

    def fail() -> None:
        raise error

    return Texts(before=fail)


async def test_a_typed_failure(start: Start) -> None:
    """Code, message, reason and metadata are those of the failure."""
    server = await start(raising(ContentBlocked("refused", metadata={"model": "a/b"})))
    for call in calls(server):
        error = await rpc_error(call)
        assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "refused")
        info: Any = detail_of(error, details.ErrorInfo)
        assert (info.reason, dict(info.metadata)) == ("CONTENT_BLOCKED", {"model": "a/b"})


async def test_retry_delays_are_sent_as_pushback_too(start: Start) -> None:
    """RetryInfo for programs, the pushback trailer for gRPC's own retries."""
    server = await start(raising(RateLimited("slow down", retry_after=2.5)))
    for call in calls(server):
        error = await rpc_error(call)
        retry: Any = detail_of(error, details.RetryInfo)
        assert retry.retry_delay.ToMilliseconds() == 2_500
        assert ("grpc-retry-pushback-ms", "2500") in tuple(error.trailing_metadata())


async def test_trailers_of_the_handler_are_kept(start: Start) -> None:
    """Details do not push out other trailers: here the cost of what failed."""
    server = await start(raising(ContentBlocked("refused")))
    for call in calls(server):
        error = await rpc_error(call)
        assert ("mediagate-cost-usd-nanos", "1250") in tuple(error.trailing_metadata())


@pytest.mark.parametrize(
    "error",
    [
        ValueError(f"cannot read {PROMPT}"),
        ExceptionGroup(PROMPT, [KeyError(PROMPT), ContentBlocked(PROMPT)]),
        grpc.aio.UsageError(PROMPT),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_internal_error(start: Start, error: Exception) -> None:
    """INTERNAL with a fixed text; the log has types and places, and nothing that was sent."""
    server = await start(raising(error))
    for call in calls(server):
        with capture_logs() as lines:
            failed = await rpc_error(call)
            await server.observe.wait_until_idle()
        assert (failed.code(), failed.details()) == (grpc.StatusCode.INTERNAL, "internal error")
        assert reason_of(failed) == "INTERNAL"
        assert PROMPT not in str(failed)
        (uncaught,) = [line for line in lines if line["event"] == "uncaught_exception"]
        assert PROMPT not in str(lines)
        assert uncaught["error"][0].split(".")[-1] in {"ValueError", "KeyError", "UsageError"}
        assert any("Texts" in frame for frame in uncaught["frames"])


async def test_a_failure_from_a_task_group(start: Start) -> None:
    """A group that holds nothing but failures is the first of them."""
    group = ExceptionGroup("tasks", [ExceptionGroup("more", [ContentBlocked("refused")])])
    server = await start(raising(group))
    for call in calls(server):
        assert reason_of(await rpc_error(call)) == "CONTENT_BLOCKED"


async def test_another_tasks_cancellation_is_an_internal_error(start: Start) -> None:
    """A CancelledError that is not the call's own ends it with a status, not with silence."""
    server = await start(raising(asyncio.CancelledError()))
    for call in calls(server):
        error = await rpc_error(call)
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.INTERNAL, "INTERNAL")


async def test_a_long_failure_message_is_truncated(start: Start) -> None:
    """It is cut, so that callers do not drop the whole status."""
    failure = MediagateError("ü" * 20_000, metadata={f"k{n}": "x" * 5_000 for n in range(50)})
    server = await start(raising(failure))
    for call in calls(server):
        error = await rpc_error(call)
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.INTERNAL, "INTERNAL")
