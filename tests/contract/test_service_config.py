"""The service config that clients load: it retries reads, and never what spends or changes."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from mediagate.v1 import models_pb2, models_pb2_grpc, text_pb2, text_pb2_grpc

from .conftest import ROOT

CONFIG = (ROOT / "protos" / "service_config.json").read_text()
READING = ("Estimate", "Get", "List", "Read", "Wait", "Watch")


class FailingServicer(grpc.GenericRpcHandler):
    """Is unavailable the first two times, whatever it is asked, and counts."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        service, _, method = details.method.rpartition("/")
        if not service.startswith("/mediagate.v1."):
            return None  # the channel asks for the server's health: there is no such service

        def answer(_request: bytes, context: grpc.ServicerContext) -> bytes:
            self.calls.append(method)
            if self.calls.count(method) <= 2:
                context.abort(grpc.StatusCode.UNAVAILABLE, "try again")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def failing() -> FailingServicer:
    return FailingServicer()


@pytest.fixture
def channel(failing: FailingServicer) -> Iterator[grpc.Channel]:
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((failing,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        options = [("grpc.service_config", CONFIG)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            yield channel
        server.stop(0).wait()


def test_reads_are_retried(channel: grpc.Channel, failing: FailingServicer) -> None:
    """GRPC itself takes the config and repeats a read that was UNAVAILABLE."""
    models_pb2_grpc.ModelServiceStub(channel).GetModel(
        models_pb2.GetModelRequest(model="x"), timeout=20
    )
    assert failing.calls == ["GetModel"] * 3


def test_billable_calls_are_not_retried(channel: grpc.Channel, failing: FailingServicer) -> None:
    """A paid call that was UNAVAILABLE comes back to its caller after one try."""
    with pytest.raises(grpc.RpcError) as raised:
        text_pb2_grpc.TextServiceStub(channel).GenerateText(
            text_pb2.GenerateTextRequest(prompt="x"), timeout=20
        )
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert failing.calls == ["GenerateText"]


def test_exactly_the_reads_are_listed(contract: list[FileDescriptorProto]) -> None:
    """Every rpc that only reads is named, and nothing else, so that a new rpc is thought about."""
    rpcs = {
        (f"{file.package}.{service.name}", method.name)
        for file in contract
        for service in file.service
        for method in service.method
    }
    named = {
        (name["service"], name["method"])
        for method_config in json.loads(CONFIG)["methodConfig"]
        for name in method_config["name"]
    }
    assert named == {(service, method) for service, method in rpcs if method.startswith(READING)}


def test_only_unavailable_is_retried() -> None:
    """Anything but UNAVAILABLE says something that trying again does not change."""
    method_configs = json.loads(CONFIG)["methodConfig"]
    codes = {
        code
        for method_config in method_configs
        for code in method_config["retryPolicy"]["retryableStatusCodes"]
    }
    assert codes == {"UNAVAILABLE"}


def test_the_client_ships_the_same_service_config() -> None:
    """The Python client carries a copy in its package; both are one."""
    shipped = ROOT / "clients" / "python" / "mediagate_client" / "service_config.json"
    assert shipped.read_text() == CONFIG


def test_retries_outlast_a_server_restart() -> None:
    """A drain and a start take up to 10 s; gRPC takes five attempts at most, and a fifth off each
    pause at worst (gRFC A6). All reads together stop at half of `maxTokens` failures.
    """
    config = json.loads(CONFIG)
    assert config["retryThrottling"]["maxTokens"] == 1000
    for method in config["methodConfig"]:
        policy = method["retryPolicy"]
        assert policy["maxAttempts"] <= 5
        first, longest = (float(policy[f"{name}Backoff"][:-1]) for name in ("initial", "max"))
        pauses = (
            min(first * policy["backoffMultiplier"] ** number, longest)
            for number in range(policy["maxAttempts"] - 1)
        )
        assert 0.8 * sum(pauses) > 10
