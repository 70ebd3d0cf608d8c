"""`mediagate run` and `mediagate check`."""

import json
from pathlib import Path

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value

from mediagate.v1.cost_pb2 import COST_STATE_ASSUMED, Cost
from mediagate.v1.generation_pb2 import Generation, RawOutput
from mediagate.v1.media_pb2 import ReadMediaResponse
from mediagate.v1.medium_pb2 import Media
from mediagate.v1.models_pb2 import RunModelResponse
from mediagate.v1.safety_pb2 import CheckSafetyResponse
from mediagate.v1.text_pb2 import ChatMessage
from mediagate.v1.verdict_pb2 import SafetyCategory, SafetyVerdict
from tests.client.rpc_statuses import status
from tests.client.scripted_server import ScriptedServer

from .conftest import FILE, Mediagate

SAFE = SafetyVerdict(verdict=SafetyVerdict.VERDICT_SAFE)
UNSAFE = SafetyVerdict(
    verdict=SafetyVerdict.VERDICT_UNSAFE,
    categories=[SafetyCategory(code="S1", name="Violent Crimes")],
)
UNREADABLE = SafetyVerdict(verdict=SafetyVerdict.VERDICT_UNSAFE, unreadable=True)


def judged(verdict: SafetyVerdict) -> CheckSafetyResponse:
    """A finished check."""
    checked_generation = Generation(
        id="gen-1",
        state=Generation.STATE_SUCCEEDED,
        model="meta/guard",
        safety=verdict,
        cost=Cost(usd_nanos=1000, state=COST_STATE_ASSUMED),
    )
    return CheckSafetyResponse(generation=checked_generation, verdict=verdict)


def put_out(value: object, *media: Media) -> RunModelResponse:
    """A finished run."""
    raw = RawOutput(value=ParseDict(value, Value()), media=media)  # type: ignore[arg-type]
    checked_generation = Generation(
        id="gen-2", state=Generation.STATE_SUCCEEDED, model="o/n", raw=raw
    )
    return RunModelResponse(generation=checked_generation)


def test_a_verdict_is_one_line(mediagate: Mediagate, scripted_server: ScriptedServer) -> None:
    """On stdout, for scripts; who said it and for how much on stderr."""
    for verdict, line in (
        (SAFE, "safe\n"),
        (UNSAFE, "unsafe: S1 Violent Crimes\n"),
        (UNREADABLE, "unsafe: the model's answer could not be read\n"),
        (SafetyVerdict(verdict=SafetyVerdict.VERDICT_UNSAFE), "unsafe\n"),
    ):
        scripted_server.plays("CheckSafety", judged(verdict))
        done = mediagate("check", "some words")
        assert (done.exit_code, done.stdout) == (0, line), done.output
        accepted, cost = done.stderr.splitlines()
        assert accepted == "gen-1: accepted, meta/guard"
        assert cost == "gen-1: meta/guard, $0.000001 assumed"
    assert scripted_server.requests_of("CheckSafety")[0].content == "some words"


def test_a_reply_is_judged_in_its_context(
    mediagate: Mediagate, scripted_server: ScriptedServer
) -> None:
    """With what it answers."""
    scripted_server.plays("CheckSafety", judged(SAFE))
    done = mediagate("check", "-", "--answers", "How?", "--json", input="Like so.\n")
    [sent] = scripted_server.requests_of("CheckSafety")
    assert (sent.content, sent.context, sent.role) == (
        "Like so.",
        "How?",
        ChatMessage.ROLE_ASSISTANT,
    )
    assert json.loads(done.stdout)["generation"]["safety"]["verdict"] == "VERDICT_SAFE"


def test_inputs_are_parsed_as_json_if_valid(
    mediagate: Mediagate, scripted_server: ScriptedServer
) -> None:
    """Else text; media by path or URL, several as a list."""
    scripted_server.plays("RunModel", put_out({"words": ["a", 1]}))
    done = mediagate(
        *("run", "o/n:v", "-i", "n=3", "-i", "on=true", "-i", "prompt=a cat", "-i", 'x={"y": [1]}'),
        *("--media", "images=https://a.example/1", "--media", "images=https://a.example/2"),
        *("--timeout", "60"),
    )
    assert done.exit_code == 0, done.output
    [sent] = scripted_server.requests_of("RunModel")
    assert (sent.model, sent.options.timeout.seconds) == ("o/n:v", 60)
    assert dict(sent.input.items())["n"] == 3
    assert sent.input["on"] is True
    assert sent.input["prompt"] == "a cat"
    assert [medium.uri for medium in sent.media["images"].media] == [
        "https://a.example/1",
        "https://a.example/2",
    ]
    assert json.loads(done.stdout) == {"words": ["a", 1]}


def test_a_text_is_printed_unquoted(mediagate: Mediagate, scripted_server: ScriptedServer) -> None:
    """Without quotes."""
    scripted_server.plays("RunModel", put_out("Hello\nthere"))
    assert mediagate("run", "o/n").stdout == "Hello\nthere\n"


def test_large_integers_are_printed_as_they_are(
    mediagate: Mediagate, scripted_server: ScriptedServer
) -> None:
    """Not as the texts that stand for them in a message."""
    answer = put_out({"n": ["9007199254740993", 0.5]})
    answer.generation.raw.exact_json = '{"n": [9007199254740993, 0.5]}'
    scripted_server.plays("RunModel", answer)
    assert mediagate("run", "o/n").stdout == '{"n": [9007199254740993, 0.5]}\n'


def test_a_large_output_is_printed_to_its_end(
    mediagate: Mediagate, scripted_server: ScriptedServer
) -> None:
    """Of which the answer shows a beginning, or nothing."""
    content = ('{"\u00e9": [' + "1, " * 300_000 + "2]}").encode()
    for value in (None, "the beginning"):
        answer = (
            put_out(value)
            if value
            else RunModelResponse(
                generation=Generation(id="gen-2", state=Generation.STATE_SUCCEEDED, model="o/n")
            )
        )
        stored = Media(id="gen-2/output", media_type="application/json", size_bytes=len(content))
        answer.generation.raw.document.CopyFrom(stored)
        scripted_server.plays("RunModel", answer)
        pieces = [content[at : at + 65_536] for at in range(0, len(content), 65_536)]
        scripted_server.plays(
            "ReadMedia",
            [
                ReadMediaResponse(media=stored),
                *(ReadMediaResponse(chunk=piece) for piece in pieces),
            ],
        )
        done = mediagate("run", "o/n")
        assert done.exit_code == 0, done.output
        assert done.stdout == content.decode() + "\n"
        assert scripted_server.requests_of("ReadMedia")[-1].document.generation_id == "gen-2"


def test_files_are_saved(mediagate: Mediagate, scripted_server: ScriptedServer, files: str) -> None:
    """Named after the model, where no other name is given."""
    scripted_server.plays(
        "RunModel", put_out("media:0", Media(uri=f"{files}/a", media_type="image/png"))
    )
    done = mediagate("run", "o/upscaler")
    assert done.exit_code == 0, done.output
    [file] = done.stdout.splitlines()
    assert file == "upscaler.png"
    assert Path(file).read_bytes() == FILE


def test_invalid_inputs_are_named(mediagate: Mediagate, scripted_server: ScriptedServer) -> None:
    """The input by its name; a second model, or half a pair, before anything is sent."""
    wrong = status(
        grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "no", fields=["input.scale"]
    )
    scripted_server.plays("RunModel", wrong)
    done = mediagate("run", "o/n", "-i", "scale=much")
    assert (done.exit_code, done.stderr) == (
        1,
        "mediagate: no (INVALID_REQUEST, input.scale)\n",
    )
    for arguments in (("-i", "scale"), ("--media", "=x"), ("--model", "o/m")):
        assert mediagate("run", "o/n", *arguments).exit_code == 2
    assert len(scripted_server.requests_of("RunModel")) == 1
