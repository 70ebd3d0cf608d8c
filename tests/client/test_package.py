"""The package as a whole: light, and the same in both faces."""

import inspect
import json
import subprocess
import sys
import threading

import pytest

from mediagate_client import AsyncClient, AsyncTextStream, Client, TextStream
from mediagate_client.channel import call_metadata, channel_options, service_config
from mediagate_client.timeouts import run_with_timeout

LIGHT = """
import json, sys
import mediagate_client
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
HEAVY = {"aiohttp", "httpx", "mediagate_server", "pydantic", "replicate", "rich", "typer", "uvloop"}


def test_the_client_needs_only_grpc_and_protobuf() -> None:
    """Importing it in a fresh interpreter loads nothing that only a server needs."""
    done = subprocess.run([sys.executable, "-c", LIGHT], check=True, capture_output=True)
    loaded = set(json.loads(done.stdout))
    assert {"mediagate_client", "grpc"} <= loaded
    assert loaded & HEAVY == set()


def public(kind: type) -> dict[str, list[str]]:
    return {
        name: list(inspect.signature(member).parameters)
        for name, member in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


@pytest.mark.parametrize(
    ("sync_class", "async_class"), [(Client, AsyncClient), (TextStream, AsyncTextStream)]
)
def test_both_clients_have_the_same_methods(sync_class: type, async_class: type) -> None:
    """Methods and parameters are the same by name; only how one closes differs."""
    left, right = public(sync_class), public(async_class)
    left.pop("close", None)
    right.pop("aclose", None)
    right.pop("close", None)
    assert left == right


def test_the_channel_has_the_expected_options() -> None:
    """4 MiB both ways, pings that a silent stream survives, our own service config."""
    options = dict(channel_options({"grpc.keepalive_time_ms": 60_000}))
    assert options["grpc.max_send_message_length"] == 4 * 1024 * 1024
    assert options["grpc.max_receive_message_length"] == 4 * 1024 * 1024
    assert options["grpc.keepalive_time_ms"] == 60_000
    assert options["grpc.keepalive_permit_without_calls"] == 1
    assert options["grpc.service_config"] == service_config()
    config = json.loads(service_config())
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    assert config["healthCheckConfig"] == {"serviceName": ""}


def test_an_api_key_is_sent_only_if_set() -> None:
    """Every call says who sends it."""
    assert dict(call_metadata("k"))["authorization"] == "Bearer k"
    assert [key for key, _ in call_metadata(None)] == ["mediagate-client"]


def test_closing_waits_a_bounded_time() -> None:
    """Work that hangs is left behind; work that ends is waited for."""
    later = threading.Event()

    def hang() -> None:
        later.wait()

    assert not run_with_timeout(0.01, hang)
    later.set()
    done: list[int] = []
    assert run_with_timeout(20, lambda: done.append(1))
    assert done == [1]
