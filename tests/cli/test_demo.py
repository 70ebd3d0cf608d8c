"""`mediagate demo`: against a server that runs, and with one of its own."""

import subprocess
import sys
import wave
from pathlib import Path

import av
import grpc
import pytest
from PIL import Image

from mediagate.v1.cost_pb2 import Cost
from mediagate.v1.generation_pb2 import Generation, TextOutput
from mediagate.v1.generations_pb2 import GetGenerationResponse
from mediagate.v1.modality_pb2 import QUALITY_ECONOMY, QUALITY_PREMIUM
from mediagate.v1.models_pb2 import ListModelsResponse, Model, ModelParameter
from mediagate_cli.model_choice import accepts, accepts_exact_size, choose_model, supports_wav
from tests.client.rpc_statuses import status
from tests.client.scripted_server import ScriptedServer as Scripted
from tests.client.stream_events import stream_events
from tests.server_process import ServerProcess

from .conftest import Mediagate

C = grpc.StatusCode
WIDTH, HEIGHT, VIDEO_SECONDS, AUDIO_SECONDS = 320, 256, 5, 2
OPTIONS = (
    *("--size", f"{WIDTH}x{HEIGHT}"),
    *("--video-seconds", str(VIDEO_SECONDS), "--audio-seconds", str(AUDIO_SECONDS)),
)


def demo(target: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mediagate_cli", "demo", "--target", target, *OPTIONS],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def check_files(folder: Path) -> None:
    """What was asked for is there, and is what it should be."""
    with Image.open(folder / "lighthouse.png") as picture:
        picture.verify()
        assert picture.size == (WIDTH, HEIGHT)
    with av.open(str(folder / "lighthouse.mp4")) as film:
        assert film.duration is not None
        assert film.duration / av.time_base == pytest.approx(VIDEO_SECONDS, abs=0.1)
    with wave.open(str(folder / "lighthouse.wav")) as sound:
        assert sound.getnframes() / sound.getframerate() == pytest.approx(AUDIO_SECONDS, abs=0.1)
    assert "sandbox" in (folder / "lighthouse.txt").read_text()


@pytest.mark.needs_gate
@pytest.mark.timeout(180)
def test_a_demo_of_a_running_server(server_process: ServerProcess, tmp_path: Path) -> None:
    """A text, a picture of that size, a video and a sound of that length, and a table of costs."""
    done = demo(server_process.address, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "starting one" not in done.stderr
    check_files(tmp_path / "out")
    table = done.stdout[done.stdout.index("STEP") :].splitlines()[1:]
    assert [line.split()[0] for line in table] == [
        "text",
        "image",
        "video",
        "audio",
        "check",
    ]
    assert all("settled" in line or "unknown" in line or "assumed" in line for line in table)
    assert table[-1].endswith("the picture's prompt is safe")
    assert "You asked" in done.stdout


@pytest.mark.needs_gate
@pytest.mark.timeout(180)
def test_a_demo_with_its_own_server(tmp_path: Path) -> None:
    """Nobody answers: it starts one on the sandbox, says so, and stops it again."""
    done = demo("127.0.0.1:1", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No server answers at 127.0.0.1:1: starting one, on the sandbox." in done.stderr
    check_files(tmp_path / "out")


def test_unimplemented_methods_are_skipped(mediagate: Mediagate, scripted_server: Scripted) -> None:
    """A young server gets a shorter tour; what fails for another reason counts."""
    checked_generation = Generation(
        id="gen-1", model="meta/llama", text=TextOutput(text="ok"), cost=Cost(usd_nanos=1)
    )
    scripted_server.plays("StreamText", stream_events(["ok"]))
    scripted_server.plays("GetGeneration", GetGenerationResponse(generation=checked_generation))
    scripted_server.plays("ListModels", ListModelsResponse())
    scripted_server.plays("GenerateImage", status(C.UNIMPLEMENTED, "NOT_IMPLEMENTED"))
    scripted_server.plays("GenerateVideo", status(C.UNIMPLEMENTED, "NOT_IMPLEMENTED"))
    scripted_server.plays("CheckSafety", status(C.UNIMPLEMENTED, "NOT_IMPLEMENTED"))
    scripted_server.plays(
        "GenerateAudio", status(C.FAILED_PRECONDITION, "PRICE_UNKNOWN", "no price")
    )
    done = mediagate("demo")
    assert done.exit_code == 1
    assert done.stdout.count("left out: this server does not do it yet") == 3
    assert "no price (PRICE_UNKNOWN)" in done.stdout
    [audio] = scripted_server.requests_of("GenerateAudio")
    assert audio.options.max_cost_usd_nanos == 1_000_000_000


def model(slug: str, *parameters: ModelParameter, **more: int) -> Model:
    return Model(slug=slug, status=Model.STATUS_LIVE, parameters=parameters, **more)  # type: ignore[arg-type]


def test_an_exactly_fitting_model_is_chosen() -> None:
    """The cheapest class of those that fit; retired ones never; none where none fits."""
    listed = model("a/listed", ModelParameter(parameter="duration", allowed_values=["5", "10"]))
    ranged = model("b/ranged", ModelParameter(parameter="duration", minimum=1, maximum=8))
    dear = model("a/dear", ModelParameter(parameter="duration"), quality=QUALITY_PREMIUM)
    cheap = model("z/cheap", ModelParameter(parameter="duration"), quality=QUALITY_ECONOMY)
    retired = Model(slug="a/gone", status=Model.STATUS_RETIRED, parameters=ranged.parameters)
    for seconds, chosen in ((5, "a/listed"), (6, "b/ranged"), (10, "a/listed"), (11, "")):
        slug = choose_model(
            [listed, ranged, retired],
            lambda m, s=seconds: accepts(m, "duration", s),  # type: ignore[misc]
        )
        assert slug == chosen
    assert choose_model([dear, cheap], lambda m: accepts(m, "duration", 60)) == "z/cheap"


def test_a_size_in_pixels_is_not_an_aspect_ratio() -> None:
    """A model that takes shapes alone cannot be held to pixels."""
    pixels = model(
        "a/b", ModelParameter(parameter="size", input_name="width", minimum=64, maximum=512)
    )
    shape = model("c/d", ModelParameter(parameter="size", input_name="aspect_ratio"))
    assert accepts_exact_size(pixels, 512, 64)
    assert not accepts_exact_size(pixels, 513, 64)
    assert not accepts_exact_size(shape, 512, 512)
    wav = ModelParameter(parameter="output_format", allowed_values=["mp3", "wav"])
    assert supports_wav(model("e/f", wav))
    assert not supports_wav(shape)
