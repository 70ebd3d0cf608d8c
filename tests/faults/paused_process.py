"""Gates on one data folder: one that is paused past its lease, another that takes over."""

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
from mediagate.v1.text_pb2 import GenerateTextRequest, GenerateTextResponse
from mediagate.v1.text_pb2_grpc import TextServiceStub
from mediagate_sandbox.control_client import SandboxControl
from tests.server_process import KEPT, MEDIAGATE, ServerProcess, free_ports, running_server

LEASE = 1.0
SECONDS = 60
IN_USE = "uses the data folder"
IN_A_COMMIT = "in the midst of a commit"


@dataclass(frozen=True, slots=True)
class Folder:
    """Where the gates of one test keep their data, and the upstream that all of them have."""

    path: Path
    upstream: SandboxControl

    def settings(self) -> dict[str, str]:
        """Of every gate here."""
        return {
            "MEDIAGATE_DATA_DIR": str(self.path / "data"),
            "MEDIAGATE_UPSTREAM_URL": self.upstream.url,
            "REPLICATE_API_TOKEN": "r8_test",
            "MEDIAGATE_LEASE_SECONDS": str(LEASE),
            # What was on its way when its gate was paused is in doubt: found, or sent anew, soon.
            "MEDIAGATE_UPSTREAM_CONNECT_TIMEOUT": "2",
            "MEDIAGATE_UPSTREAM_CREATE_TIMEOUT": "3",
            "MEDIAGATE_ABSENT_MARGIN": "1",
            "MEDIAGATE_SWEEP_SECONDS": "1",
        }

    @contextmanager
    def gate(self, name: str) -> Iterator[ServerProcess]:
        """A gate that serves."""
        with running_server(self.path / name, **self.settings()) as gate:
            yield gate

    @contextmanager
    def paused_and_followed(self, first: ServerProcess) -> Iterator[ServerProcess]:
        """Pauses a gate and gives the one that takes over, as soon as that may.

        Until the lease has run out it refuses and is started anew. Where the first one happens to
        stand in a commit nobody may take over: it is woken, and paused at another moment.
        """
        give_up = monotonic() + SECONDS
        first.process.send_signal(signal.SIGSTOP)
        with ExitStack() as stack:
            while True:
                try:
                    gate = stack.enter_context(self.gate("successor"))
                except AssertionError as refused:
                    if IN_USE not in str(refused) or monotonic() > give_up:
                        raise
                    if IN_A_COMMIT in str(refused):
                        first.process.send_signal(signal.SIGCONT)
                        is_serving(first)
                        first.process.send_signal(signal.SIGSTOP)
                else:
                    yield gate
                    return

    def refusal(self) -> str:
        """What one that may not start says. Fails where it starts."""
        grpc_port, operations_port, web_port = free_ports(3)
        ran = subprocess.run(
            [*MEDIAGATE, "serve"],
            cwd=self.path,
            env={name: os.environ[name] for name in KEPT if name in os.environ}
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


def is_serving(gate: ServerProcess) -> bool:
    """Whether it says so itself."""
    with grpc.insecure_channel(gate.address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=SECONDS, wait_for_ready=True
        )
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def begin_texts(channel: grpc.Channel, count: int) -> list["grpc.Future[GenerateTextResponse]"]:
    """So many calls, each under way when this returns; what they end in is nobody's concern."""
    texts = TextServiceStub(channel)
    return [
        texts.GenerateText.future(
            GenerateTextRequest(
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


def all_ended(gate: ServerProcess) -> dict[str, Generation]:
    """Every generation that a gate knows, at its end."""
    with grpc.insecure_channel(gate.address) as channel:
        generations = GenerationServiceStub(channel)
        known = generations.ListGenerations(ListGenerationsRequest(page_size=1000)).generations
        ended = {
            one.id: generations.WaitGeneration(
                WaitGenerationRequest(id=one.id), timeout=SECONDS
            ).generation
            for one in known
        }
    assert all(one.HasField("complete_time") for one in ended.values()), ended
    return ended


def check_paid_once(ended: dict[str, Generation], upstream: SandboxControl) -> None:
    """All succeeded, each with one prediction, and what they cost is what upstream bills."""
    bill = upstream.bill()
    ours = sorted(
        a.prediction_id for one in ended.values() for a in one.attempts if a.prediction_id
    )
    assert sorted(entry["id"] for entry in bill["entries"]) == ours, (bill, ended)
    assert len(ours) == len(ended)
    assert {one.state for one in ended.values()} <= {Generation.STATE_SUCCEEDED}
    assert {one.cost.state for one in ended.values()} <= {COST_STATE_SETTLED}
    assert sum(one.cost.usd_nanos for one in ended.values()) == bill["total_nanos"]
