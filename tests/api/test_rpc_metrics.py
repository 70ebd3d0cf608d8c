"""Every rpc is counted in and out, with its code, and leaves one line without content."""

import asyncio
import logging
from typing import Any

import grpc
import pytest
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from mediagate.v1 import text_pb2, text_pb2_grpc
from mediagate_server.observability.metrics import REGISTRY
from tests.builders import stream_text_request, text_request
from tests.grpc_errors import rpc_error

from .conftest import InterceptorServer, Start
from .fake_servicers import EndlessTexts, Texts

PROMPT = "a prompt that nobody else may read"
UNARY = {
    "grpc_type": "unary",
    "grpc_service": "mediagate.v1.TextService",
    "grpc_method": "GenerateText",
}
STREAM = {
    "grpc_type": "server_stream",
    "grpc_service": "mediagate.v1.TextService",
    "grpc_method": "StreamText",
}


def texts(server: InterceptorServer) -> Any:
    """The text service, as callers see it."""
    return text_pb2_grpc.TextServiceStub(server.channel)


class Counts:
    """How far a metric has moved since this was made."""

    def __init__(self, name: str, labels: dict[str, str]) -> None:
        self._name = name
        self._labels = labels
        self._before = self._now()

    def _now(self) -> float:
        return REGISTRY.get_sample_value(self._name, self._labels) or 0.0

    @property
    def moved(self) -> float:
        """The difference."""
        return self._now() - self._before


def handled(labels: dict[str, str], code: str) -> Counts:
    """The counter of finished rpcs of a method with a code."""
    return Counts("grpc_server_handled_total", {**labels, "grpc_code": code})


async def test_a_successful_call(start: Start) -> None:
    """Started, handled as OK, timed; messages counted both ways."""
    server = await start(Texts())
    started = Counts("grpc_server_started_total", STREAM)
    ok = handled(STREAM, "OK")
    received = Counts("grpc_server_msg_received_total", STREAM)
    sent = Counts("grpc_server_msg_sent_total", STREAM)
    timed = Counts("grpc_server_handling_seconds_count", STREAM)
    async for _ in texts(server).StreamText(stream_text_request(prompt=PROMPT)):
        pass
    await server.observe.wait_until_idle()
    moved = [count.moved for count in (started, ok, received, sent, timed)]
    assert moved == [1, 1, 1, 5, 1]


async def test_the_access_log_line(start: Start) -> None:
    """One line for each rpc: method, code, seconds, tenant, generation, cost; no content."""
    server = await start(Texts())
    with capture_logs() as lines:
        await texts(server).GenerateText(text_request(prompt=PROMPT, labels={"who": "someone"}))
        await server.observe.wait_until_idle()
    (line,) = lines
    assert line.pop("seconds") >= 0
    assert line == {
        "event": "rpc",
        "log_level": "info",
        "method": "/mediagate.v1.TextService/GenerateText",
        "code": "OK",
        "tenant": "local",
        "generation": "g1",
        "model": "a/b",
        "cost_usd_nanos": 1_250,
    }


async def test_a_refused_call(start: Start) -> None:
    """The code that the status had is the code that is counted; the line has the reason."""
    server = await start(Texts())
    refused = handled(UNARY, "INVALID_ARGUMENT")
    with capture_logs() as lines:
        await rpc_error(texts(server).GenerateText(text_pb2.GenerateTextRequest()))
        await server.observe.wait_until_idle()
    assert refused.moved == 1
    (line,) = lines
    assert (line["code"], line["reason"]) == ("INVALID_ARGUMENT", "INVALID_REQUEST")


async def test_the_access_log_follows_the_log_level(start: Start) -> None:
    """While the server serves: its logger is kept only while nothing is configured anew."""
    server = await start(Texts())
    line_counts = []
    for level in (logging.INFO, logging.ERROR, logging.INFO):
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
        with capture_logs() as lines:
            await texts(server).GenerateText(text_request(prompt=PROMPT))
            await server.observe.wait_until_idle()
        line_counts.append(len(lines))
    assert line_counts == [1, 0, 1]


@pytest.mark.parametrize("method", ["GenerateText", "StreamText"])
async def test_a_cancelled_call(start: Start, method: str) -> None:
    """It has no code of gRPC's; it counts as CANCELLED, once, and is no longer in flight."""
    servicer = EndlessTexts(pause=asyncio.Event())
    server = await start(servicer)
    cancelled = handled(UNARY if method == "GenerateText" else STREAM, "CANCELLED")
    request_type = getattr(text_pb2, f"{method}Request")
    call = getattr(texts(server), method)(request_type(prompt=PROMPT))
    await servicer.begun.wait()
    assert server.observe.in_flight == 1
    call.cancel()
    await server.observe.wait_until_idle()
    assert (cancelled.moved, server.observe.in_flight) == (1, 0)


async def test_a_call_that_exceeded_its_deadline(start: Start) -> None:
    """It is told apart from one whose caller left."""
    servicer = EndlessTexts()
    server = await start(servicer)
    passed = handled(UNARY, "DEADLINE_EXCEEDED")
    cancelled = handled(UNARY, "CANCELLED")
    request = text_request(prompt=PROMPT)
    error = await rpc_error(texts(server).GenerateText(request, timeout=0.3))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await server.observe.wait_until_idle()
    assert (passed.moved, cancelled.moved) == (1, 0)


async def test_unknown_method_names_create_no_series(start: Start) -> None:
    """They make no series of their own and are in no line."""
    server = await start(Texts())
    other = {"grpc_type": "other", "grpc_service": "other", "grpc_method": "other"}
    counted = handled(other, "UNIMPLEMENTED")
    channel: Any = server.channel
    with capture_logs() as lines:
        await rpc_error(channel.unary_unary("/made.Up/Name")(b""))
        await server.observe.wait_until_idle()
    assert counted.moved == 1
    assert "made.Up" not in str(lines)
    families = [str(sample.labels) for family in REGISTRY.collect() for sample in family.samples]
    assert not [labels for labels in families if "made.Up" in labels]


async def test_health_checks_have_no_caller(start: Start) -> None:
    """Health answers without a caller or a receipt; its watches never keep a drain waiting."""
    server = await start(health.aio.HealthServicer())
    check = {
        "grpc_type": "unary",
        "grpc_service": "grpc.health.v1.Health",
        "grpc_method": "Check",
    }
    ok = handled(check, "OK")
    stub: Any = health_pb2_grpc.HealthStub(server.channel)
    with capture_logs() as lines:
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        first = await watch.read()
        assert server.observe.in_flight == 0
        await server.observe.wait_until_idle()
        reply = await stub.Check(health_pb2.HealthCheckRequest())
    watch.cancel()
    assert reply.status == first.status == health_pb2.HealthCheckResponse.SERVING
    assert ok.moved == 1
    assert [line["log_level"] for line in lines] == ["debug"]
    assert "tenant" not in lines[0]
