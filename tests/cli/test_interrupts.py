"""Ctrl-C and closed pipes, against real processes of the command line."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mediagate.v1.cost_pb2 import COST_STATE_ESTIMATED, Cost
from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.generations_pb2 import WaitGenerationResponse, WatchGenerationResponse
from mediagate.v1.image_pb2 import GenerateImageResponse
from mediagate.v1.text_pb2 import StreamTextResponse
from tests.client.sample_generations import COST, RUNNING
from tests.client.scripted_server import HeldCall, ScriptedServer
from tests.client.stream_events import delta, started

Process = subprocess.Popen[bytes]
SECONDS = 30
ESTIMATE = Cost(usd_nanos=40_000_000, state=COST_STATE_ESTIMATED)
# Whoever runs the tests in the background has told their children to ignore Ctrl-C.
HEARS_CTRL_C = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from mediagate_cli.__main__ import main; main()"
)


@pytest.fixture
def start(scripted_server: ScriptedServer, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts `mediagate ARGUMENTS…` as a process of its own."""
    running: list[Process] = []

    def run(*arguments: str) -> Process:
        process = subprocess.Popen(
            [sys.executable, "-c", HEARS_CTRL_C, *arguments],
            cwd=tmp_path,
            env={**os.environ, "MEDIAGATE_TARGET": scripted_server.target},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_ctrl_c_cancels_a_text(
    start: Callable[..., Process], scripted_server: ScriptedServer
) -> None:
    """The server is told by name; what came stays on the screen; the number is 130."""
    scripted_server.plays("StreamText", started(), delta("so far", 6), HeldCall())
    end = Generation(id="gen-1", state=Generation.STATE_CANCELLED, cost=COST)
    scripted_server.plays("WaitGeneration", WaitGenerationResponse(generation=end))
    process = start("text", "Why?")
    assert process.stdout is not None
    assert process.stdout.read(6) == b"so far"
    process.send_signal(signal.SIGINT)
    assert scripted_server.cancelled.get(timeout=SECONDS) == "gen-1"
    _, said = process.communicate(timeout=SECONDS)
    assert said.decode().splitlines() == [
        "gen-1: accepted, meta/llama",
        "gen-1: cancelled, cost $0.04 settled",
        "  `mediagate save gen-1` gets what it made until then",
        "mediagate: interrupted",
    ]
    assert process.returncode == 130


def test_ctrl_c_cancels_an_image(
    start: Callable[..., Process], scripted_server: ScriptedServer, tmp_path: Path
) -> None:
    """While it is followed its id is known, so it ends at once and nothing is saved."""

    def watched(_request: object) -> HeldCall:
        process.send_signal(signal.SIGINT)
        return HeldCall()

    scripted_server.plays("GenerateImage", GenerateImageResponse(generation=RUNNING))
    first = WatchGenerationResponse(generation=RUNNING, sequence=1)
    scripted_server.plays("WatchGeneration", first, watched)
    late = Generation(id="gen-1", state=Generation.STATE_RUNNING, cost=ESTIMATE)
    for _ in range(20):
        scripted_server.plays("WaitGeneration", WaitGenerationResponse(generation=late))
    process = start("image", "cat")
    assert scripted_server.cancelled.get(timeout=SECONDS) == "gen-1"
    out, said = process.communicate(timeout=SECONDS)
    assert out == b""
    assert said.decode().splitlines() == [
        "gen-1: accepted",
        "cancelling gen-1 ...",
        "gen-1: running, cost not settled yet, at most $0.04",
        "  `mediagate wait gen-1` tells its end and its cost, `mediagate cancel gen-1` ends it",
        "mediagate: interrupted",
    ]
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_before_anything_is_accepted(
    start: Callable[..., Process], scripted_server: ScriptedServer
) -> None:
    """The rpc ends; there is no id to cancel, the server sees its caller leave."""

    def reached(_request: object) -> HeldCall:
        process.send_signal(signal.SIGINT)
        return HeldCall()

    scripted_server.plays("GenerateImage", reached)
    process = start("image", "cat")
    assert scripted_server.left.get(timeout=SECONDS) == "GenerateImage"
    process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert scripted_server.cancelled.empty()


def test_a_closed_output_pipe_cancels(
    start: Callable[..., Process], scripted_server: ScriptedServer
) -> None:
    """`mediagate text … | head` stops paying when head stops reading."""

    def more_after_closing(_request: object) -> StreamTextResponse:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        return delta("more\n", 12)

    scripted_server.plays(
        "StreamText", started(), delta("so far\n", 7), more_after_closing, HeldCall()
    )
    process = start("text", "Why?")
    assert scripted_server.cancelled.get(timeout=SECONDS) == "gen-1"
    assert process.stderr is not None
    said = process.stderr.read().decode()
    assert "Traceback" not in said
    assert "`mediagate wait gen-1` tells its end and its cost" in said
    assert process.wait(SECONDS) == 141
    process.stdout = None
