"""A server whose disk is full: nothing is sent that is not durable, nothing is lost."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import grpc
import pytest

from mediagate.v1.text_pb2 import GenerateTextRequest
from mediagate.v1.text_pb2_grpc import TextServiceStub
from tests.builders import text_request
from tests.conftest import Missing
from tests.faults.paused_process import (
    Folder,
    all_ended,
    check_billed_once,
    until_created,
    until_idle,
)
from tests.sandbox_process import UNLIMITED, running_sandbox
from tests.server_process import ServerProcess

SECONDS = 60
CALLS = 20
LONG = "[[tokens=20 interval_ms=100]]"


@contextmanager
def no_room(server: ServerProcess) -> Iterator[None]:
    """No file of the server may be written beyond its first byte: the system says EFBIG."""
    usual = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, usual[1]))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, usual)


def text(prompt: str) -> GenerateTextRequest:
    """A call with an id of its own."""
    return text_request(prompt=prompt, max_output_tokens=20, request_id=str(uuid4()))


def test_a_full_disk_spends_nothing_and_loses_nothing(tmp_path: Path, missing: Missing) -> None:
    """Calls fail as UNAVAILABLE while it is full; what ran then is settled once there is room."""
    if not hasattr(resource, "prlimit"):
        missing("prlimit")
    with running_sandbox(tmp_path, "--time-scale", "0.02", *UNLIMITED) as upstream:
        folder = Folder(tmp_path, upstream)
        with folder.open_server("gate") as server, grpc.insecure_channel(server.address) as channel:
            texts = TextServiceStub(channel)
            running = [texts.GenerateText.future(text(f"{LONG} {n}")) for n in range(5)]
            until_created(upstream, len(running))
            refused = [text(f"Refused {n}") for n in range(CALLS)]
            with no_room(server):
                for request in refused:
                    with pytest.raises(grpc.RpcError) as raised:
                        texts.GenerateText(request, timeout=SECONDS)
                    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
                until_idle(upstream)
                assert len(upstream.bill()["entries"]) == len(running)
                assert not any(call.done() for call in running)
            for call in running:
                assert call.result(SECONDS).generation.cost.usd_nanos > 0
            # The same ids, which were never bound.
            again = [texts.GenerateText(request, timeout=SECONDS) for request in refused]
            assert not any(answer.replayed for answer in again)
            ended = all_ended(server)
            assert len(ended) == len(running) + CALLS
            check_billed_once(ended, upstream)
            assert "Traceback" not in server.output.read_text()
