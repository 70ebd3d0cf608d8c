"""Servers on one data folder: one that is paused past its lease, another that takes over."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from uuid import uuid4

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mediagate.v1.cost_pb2 import COST_STATE_SETTLED
from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.generations_pb2 import ListGenerationsRequest, WaitGenerationRequest
from mediagate.v1.generations_pb2_grpc import GenerationServiceStub
from mediagate.v1.text_pb2 import GenerateTextResponse
from mediagate.v1.text_pb2_grpc import TextServiceStub
from mediagate_sandbox.control_client import SandboxControl
from tests.builders import text_request
from tests.server_process import ENVIRONMENT, MEDIAGATE, ServerProcess, free_ports, running_server

LEASE = 1.0
SECONDS = 60
IN_USE = "uses the data folder"
IN_A_COMMIT = "in the midst of a commit"


@dataclass(frozen=True, slots=True)
class Folder:
    """Where the servers of one test keep their data, and the upstream that all of them have."""

    path: Path
    upstream: SandboxControl

    def settings(self) -> dict[str, str]:
        """Of every server here."""
        return {
            "MEDIAGATE_DATA_DIR": str(self.path / "data"),
            "MEDIAGATE_UPSTREAM_URL": self.upstream.url,
            "REPLICATE_API_TOKEN": "r8_test",
            "MEDIAGATE_LEASE_SECONDS": str(LEASE),
            # What was on its way when its server was paused is in doubt: found, or sent anew, soon.
            "MEDIAGATE_UPSTREAM_CONNECT_TIMEOUT": "2",
            "MEDIAGATE_UPSTREAM_CREATE_TIMEOUT": "3",
            "MEDIAGATE_ABSENT_MARGIN": "1",
            "MEDIAGATE_SWEEP_SECONDS": "1",
        }

    @contextmanager
    def open_server(self, name: str) -> Iterator[ServerProcess]:
        """A server that serves."""
        with running_server(self.path / name, **self.settings()) as server:
            yield server

    @contextmanager
    def paused_and_followed(self, first: ServerProcess) -> Iterator[ServerProcess]:
        """Pauses a server and gives the one that takes over, as soon as that may.

        Until the lease has run out it refuses and is started anew. Where the first one happens to
        stand in a commit nobody may take over: it is woken, and paused at another moment.
        """
        give_up = monotonic() + SECONDS
        first.process.send_signal(signal.SIGSTOP)
        with ExitStack() as stack:
            while True:
                try:
                    server = stack.enter_context(self.open_server("successor"))
                except AssertionError as refused:
                    if IN_USE not in str(refused) or monotonic() > give_up:
                        raise
                    if IN_A_COMMIT in str(refused):
                        first.process.send_signal(signal.SIGCONT)
                        is_serving(first)
                        first.process.send_signal(signal.SIGSTOP)
                else:
                    yield server
                    return

    def refusal(self) -> str:
        """What one that may not start says. Fails where it starts."""
        grpc_port, operations_port, web_port = free_ports(3)
        ran = subprocess.run(
            [*MEDIAGATE, "serve"],
            cwd=self.path,
            env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
            | self.settings()
            | {
                "MEDIAGATE_GRPC_ADDRESS": f"127.0.0.1:{grpc_port}",
                "MEDIAGATE_OPS_ADDRESS": f"127.0.0.1:{operations_port}",
                "MEDIAGATE_WEB_ADDRESS": f"127.0.0.1:{web_port}",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert ran.returncode == 1, ran.stdout
        return ran.stdout


def is_serving(server: ServerProcess) -> bool:
    """Whether it says so itself."""
    with grpc.insecure_channel(server.address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=SECONDS, wait_for_ready=True
        )
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def begin_texts(channel: grpc.Channel, count: int) -> list["grpc.Future[GenerateTextResponse]"]:
    """So many calls, each under way when this returns; what they end in is nobody's concern."""
    texts = TextServiceStub(channel)
    return [
        texts.GenerateText.future(
            text_request(
                prompt=f"Question {number}?", max_output_tokens=200, request_id=str(uuid4())
            ),
            timeout=SECONDS,
        )
        for number in range(count)
    ]


def until_created(upstream: SandboxControl, count: int) -> None:
    """Until upstream has taken so many creates."""
    give_up = monotonic() + SECONDS
    while len(upstream.bill()["entries"]) < count:
        assert monotonic() < give_up, upstream.state()


def until_idle(upstream: SandboxControl) -> None:
    """Until nothing runs there any more."""
    give_up = monotonic() + SECONDS
    while upstream.bill()["running"]:
        assert monotonic() < give_up, upstream.state()


def all_ended(server: ServerProcess) -> dict[str, Generation]:
    """Every generation that a server knows, at its end."""
    with grpc.insecure_channel(server.address) as channel:
        generations = GenerationServiceStub(channel)
        listed = generations.ListGenerations(ListGenerationsRequest(page_size=1000)).generations
        ended = {
            generation.id: generations.WaitGeneration(
                WaitGenerationRequest(id=generation.id), timeout=SECONDS
            ).generation
            for generation in listed
        }
    assert all(generation.HasField("complete_time") for generation in ended.values()), ended
    return ended


def check_billed_once(ended: dict[str, Generation], upstream: SandboxControl) -> None:
    """All succeeded, each with one prediction, and what they cost is what upstream bills."""
    bill = upstream.bill()
    ours = sorted(
        a.prediction_id
        for generation in ended.values()
        for a in generation.attempts
        if a.prediction_id
    )
    assert sorted(entry["id"] for entry in bill["entries"]) == ours, (bill, ended)
    assert len(ours) == len(ended)
    assert {generation.state for generation in ended.values()} <= {Generation.STATE_SUCCEEDED}
    assert {generation.cost.state for generation in ended.values()} <= {COST_STATE_SETTLED}
    assert sum(generation.cost.usd_nanos for generation in ended.values()) == bill["total_nanos"]
