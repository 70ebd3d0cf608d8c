"""The examples of the client's README run as they stand."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Value

from mediagate.v1.cost_pb2 import Cost
from mediagate.v1.generation_pb2 import (
    Generation,
    ImageOutput,
    RawOutput,
    TextOutput,
    VideoOutput,
)
from mediagate.v1.generations_pb2 import ListGenerationsResponse, WatchGenerationResponse
from mediagate.v1.image_pb2 import GenerateImageResponse
from mediagate.v1.medium_pb2 import Media
from mediagate.v1.models_pb2 import ModelCompleted, RunModelResponse, StreamModelResponse
from mediagate.v1.safety_pb2 import CheckSafetyResponse
from mediagate.v1.text_pb2 import GenerateTextResponse, TextDelta, TextStarted
from mediagate.v1.usage_pb2 import (
    Charge,
    GetUsageResponse,
    ListChargesResponse,
    UsageTotal,
)
from mediagate.v1.verdict_pb2 import SafetyCategory, SafetyVerdict
from mediagate.v1.video_pb2 import GenerateVideoResponse
from mediagate_client import Client
from mediagate_server.webhooks.http_client import signed_headers

from .rpc_statuses import status
from .sample_generations import DONE
from .scripted_server import ScriptedServer
from .stream_events import stream_events
from .test_error_mapping import C
from .test_request_conversion import PNG

README = Path(__file__).parents[2] / "clients" / "python" / "README.md"
TEXT, MEDIA, OFFERS, SPENT, ASYNCIO, WEBHOOKS, ERRORS = re.findall(
    r"```python\n(.*?)```", README.read_text(), re.DOTALL
)
FILE = "http://127.0.0.1:1/file"


def run(example: str, scripted: ScriptedServer) -> None:
    here = example.replace("Client()", f"Client({scripted.target!r})")
    assert here != example
    exec(compile(here, str(README), "exec"), {"__name__": "example"})  # noqa: S102 - our own page


def test_text(scripted_server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The first example streams a text and prints its cost."""
    scripted_server.plays("StreamText", stream_events(["It ", "scatters."]))
    run(TEXT, scripted_server)
    assert capsys.readouterr().out == "It scatters.\nmeta/llama: 0.000012 USD\n"


def test_media(
    scripted_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second makes a picture and hands it on to a video."""
    saved: list[str] = []

    def save(_client: Client, _media: Media, path: str) -> None:
        saved.append(path)
        Path(path).write_bytes(PNG)

    monkeypatch.setattr(Client, "download", save)
    monkeypatch.chdir(tmp_path)
    succeeded = Generation.STATE_SUCCEEDED
    picture = Generation(id="g-1", state=succeeded, images=ImageOutput(images=[Media(uri=FILE)]))
    video = Generation(id="g-2", state=succeeded, video=VideoOutput(video=Media(uri=FILE)))
    scripted_server.plays("GenerateImage", GenerateImageResponse(generation=picture))
    scripted_server.plays("GenerateVideo", GenerateVideoResponse(generation=Generation(id="g-2")))
    scripted_server.plays("WatchGeneration", WatchGenerationResponse(generation=video, sequence=1))
    run(MEDIA, scripted_server)
    assert saved == ["lighthouse.png", "waves.mp4"]
    assert scripted_server.requests_of("GenerateVideo")[0].first_frame.output.generation_id == "g-1"


def test_example_of_checks_json_and_models(
    scripted_server: ScriptedServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The third checks a text, asks for JSON, runs a model by its slug and streams another."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lighthouse.png").write_bytes(PNG)
    succeeded = Generation.STATE_SUCCEEDED
    harm = SafetyCategory(code="S9", name="Indiscriminate Weapons")
    judged = Generation(state=succeeded, safety=SafetyVerdict(categories=[harm]))
    answer = Generation(state=succeeded, text=TextOutput(text='{"capital": "Paris"}'))
    raw = RawOutput(value=Value(string_value="media:0"), media=[Media(uri=FILE)])
    scripted_server.plays("CheckSafety", CheckSafetyResponse(generation=judged))
    scripted_server.plays("GenerateText", GenerateTextResponse(generation=answer))
    scripted_server.plays(
        "RunModel", RunModelResponse(generation=Generation(state=succeeded, raw=raw))
    )
    scripted_server.plays(
        "StreamModel",
        StreamModelResponse(started=TextStarted(generation_id="g-1")),
        StreamModelResponse(sequence=3, delta=TextDelta(text="It.")),
        StreamModelResponse(
            completed=ModelCompleted(generation=Generation(cost=Cost(usd_nanos=7)))
        ),
    )
    run(OFFERS, scripted_server)
    expected = f"['Indiscriminate Weapons']\nParis\nmedia:0 {FILE}\nIt.7\n"
    assert capsys.readouterr().out == expected
    [sent] = scripted_server.requests_of("RunModel")
    assert sent.media["image"].media[0].inline.data == PNG


def test_example_of_usage(
    scripted_server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was spent, added up and one by one."""
    total = UsageTotal(day="2026-11-24", model="a/b", settled_usd_nanos=7, unknown_charges=1)
    charge = Charge(generation_id="g-1", cost=Cost(usd_nanos=7))
    scripted_server.plays("GetUsage", GetUsageResponse(totals=[total]))
    scripted_server.plays("ListCharges", ListChargesResponse(charges=[charge]))
    run(SPENT, scripted_server)
    assert capsys.readouterr().out == "2026-11-24 a/b 7 1\ng-1 7\n"
    [request] = scripted_server.requests_of("ListCharges")
    assert request.filter.labels == {"team": "a"}


def test_asyncio(scripted_server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The next does it with asyncio."""
    scripted_server.plays("StreamText", stream_events(["Elbe"]))
    scripted_server.plays("ListGenerations", ListGenerationsResponse(generations=[DONE]))
    run(ASYNCIO, scripted_server)
    assert capsys.readouterr().out == "Elbegen-1 \n"


def test_errors(scripted_server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The last shows what was wrong."""
    refusal = status(C.INVALID_ARGUMENT, "INVALID_REQUEST", fields=["temperature"])
    scripted_server.plays("GenerateText", refusal)
    run(ERRORS, scripted_server)
    assert capsys.readouterr().out == "['temperature']\n"


def test_webhooks(capsys: pytest.CaptureFixture[str]) -> None:
    """The one about webhooks believes what is signed with its secret, and nothing else."""
    names: dict[str, Any] = {}
    exec(compile(WEBHOOKS, str(README), "exec"), names)  # noqa: S102 - our own page
    body = b'{"generation":{"id":"gen_1","state":"STATE_SUCCEEDED"}}'
    headers = signed_headers("evt_1", datetime.now(UTC), body, (b"mediagate",))
    assert names["take"](body, headers) == 204
    assert capsys.readouterr().out.startswith("evt_1 gen_1 ")
    assert names["take"](body + b" ", headers) == 401
