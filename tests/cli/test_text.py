"""`mediagate text`."""

import json

import grpc
import pytest

from mediagate.v1.generations_pb2 import GetGenerationResponse
from mediagate.v1.options_pb2 import WHEN_UNCONFIRMED_NEXT
from tests.client.rpc_statuses import status
from tests.client.sample_generations import DONE
from tests.client.scripted_server import ScriptedServer
from tests.client.stream_events import delta, started, stream_events
from tests.client.stream_events import status as queued

from .conftest import Mediagate

C = grpc.StatusCode


def test_the_answer_is_on_stdout_and_the_cost_on_stderr(
    mediagate: Mediagate, scripted_server: ScriptedServer
) -> None:
    """So that the answer can be piped on as it is."""
    scripted_server.plays("StreamText", stream_events(["It ", "scatters."]))
    done = mediagate("text", "Why is the sky blue?")
    assert done.exit_code == 0, done.output
    assert done.stdout == "It scatters.\n"
    accepted, cost = done.stderr.splitlines()
    assert accepted == "gen-1: accepted, meta/llama"
    assert cost == "gen-1: meta/llama, 3 tokens, $0.000012 settled"


def test_every_option_sets_its_field(mediagate: Mediagate, scripted_server: ScriptedServer) -> None:
    """What is typed is what is asked, and nothing that was not typed."""
    scripted_server.plays("StreamText", stream_events(["ok"]))
    done = mediagate(
        *("text", "-", "--model", "claude", "--quality", "premium", "--system", "Be brief."),
        *("--max-tokens", "9", "--temperature", "0", "--top-p", "0.5", "--seed", "0"),
        *("--reasoning", "low", "--timeout", "30", "--max-cost", "0.05", "--strict"),
        *("--label", "team=a", "--label", "job=b=c", "--api-key", "k-9"),
        *("--webhook-url", "https://example.com/told", "--when-unconfirmed", "next"),
        input="From stdin\n",
    )
    assert done.exit_code == 0, done.output
    [heard] = scripted_server.heard
    sent = heard.request
    assert (sent.prompt, sent.system_prompt) == ("From stdin", "Be brief.")
    assert (sent.max_output_tokens, sent.top_p, sent.reasoning_effort) == (9, 0.5, 3)
    assert sent.HasField("temperature")
    assert sent.HasField("seed")
    assert not sent.HasField("top_k")
    assert (sent.options.model, sent.options.quality) == ("claude", 3)
    assert sent.options.timeout.seconds == 30
    assert sent.options.max_cost_usd_nanos == 50_000_000
    assert sent.options.parameter_mode == 2
    assert sent.options.when_unconfirmed == WHEN_UNCONFIRMED_NEXT
    assert dict(sent.options.labels) == {"team": "a", "job": "b=c"}
    assert sent.options.webhook_url == "https://example.com/told"
    assert heard.metadata["authorization"] == "Bearer k-9"


def test_the_queue_position_is_printed(
    mediagate: Mediagate, scripted_server: ScriptedServer
) -> None:
    """Somebody who waits sees that it goes on."""
    scripted_server.plays("StreamText", started(), queued(3), list(stream_events(["ok"]))[1:])
    assert "waiting at place 3\n" in mediagate("text", "Why?").stderr


def test_json_is_the_generation(mediagate: Mediagate, scripted_server: ScriptedServer) -> None:
    """For programs: one document with the contract's own field names, nothing beside it."""
    scripted_server.plays("StreamText", stream_events(["because"]))
    scripted_server.plays("GetGeneration", GetGenerationResponse(generation=DONE))
    done = mediagate("text", "Why?", "--json")
    document = json.loads(done.stdout)
    assert document["generation"]["text"]["text"] == "because"
    assert document["generation"]["cost"]["usd"] == "0.04"
    assert document["files"] == []


@pytest.mark.parametrize(
    ("script", "code", "line"),
    [
        (
            status(C.INVALID_ARGUMENT, "INVALID_REQUEST", "no such tone", fields=["temperature"]),
            1,
            "mediagate: no such tone (INVALID_REQUEST, temperature)\n",
        ),
        (
            status(C.RESOURCE_EXHAUSTED, "BUDGET_EXCEEDED", "the month is\nspent"),
            1,
            "mediagate: the month is spent (BUDGET_EXCEEDED)\n",
        ),
        (
            status(C.FAILED_PRECONDITION, "MODEL_RETIRED", "gone", retry_after=7),
            1,
            "mediagate: gone (MODEL_RETIRED, try again in 7 s)\n",
        ),
        (
            status(C.FAILED_PRECONDITION, "RUN_FAILED", "it ran"),
            3,
            "mediagate: it ran (RUN_FAILED)\n",
        ),
        (status(C.DATA_LOSS, "STREAM_INTERRUPTED", "cut"), 3, "(STREAM_INTERRUPTED)\n"),
        (status(C.DEADLINE_EXCEEDED, "DEADLINE", "too late"), 3, "(DEADLINE)\n"),
    ],
)
def test_a_failure_is_one_line_and_an_exit_code(
    mediagate: Mediagate, scripted_server: ScriptedServer, script: object, code: int, line: str
) -> None:
    """What, why in a word, which field; 1 where nothing began, 3 where it failed."""
    scripted_server.plays("StreamText", script)  # type: ignore[arg-type]
    done = mediagate("text", "Why?")
    assert done.exit_code == code
    assert done.stderr.endswith(line)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_partial_text_before_a_failure_is_shown(
    mediagate: Mediagate, scripted_server: ScriptedServer
) -> None:
    """Half an answer is shown, and not mistaken for a whole one."""
    scripted_server.plays(
        "StreamText", started(), delta("so far", 6), status(C.FAILED_PRECONDITION, "RUN_FAILED")
    )
    done = mediagate("text", "Why?")
    assert done.exit_code == 3
    assert done.stdout.startswith("so far")


def test_an_unreachable_server(mediagate: Mediagate) -> None:
    """The line says how to get a server, not what gRPC thinks of sockets."""
    done = mediagate("text", "Why?", "--target", "127.0.0.1:1", "--timeout", "5")
    assert done.exit_code == 1
    assert done.stderr.startswith("mediagate: no server answers at 127.0.0.1:1: start one")


@pytest.mark.parametrize(
    "wrong",
    [
        ["text"],
        ["text", "x", "--label", "team"],
        ["text", "x", "--max-cost", "much"],
        ["text", "x", "--max-cost", "-1"],
        ["text", "x", "--quality", "best"],
        ["text", "x", "--seed", "one"],
        ["sing"],
    ],
)
def test_a_wrong_command_line_is_refused_as_such(
    mediagate: Mediagate, scripted_server: ScriptedServer, wrong: list[str]
) -> None:
    """Exit code 2, and nothing sent."""
    assert mediagate(*wrong).exit_code == 2
    assert scripted_server.heard == []
