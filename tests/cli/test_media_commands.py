"""`mediagate image`, `video` and `audio`."""

import errno
import json
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1.audio_pb2 import GenerateAudioResponse
from mediagate.v1.cost_pb2 import COST_STATE_SETTLED, Cost
from mediagate.v1.generation_pb2 import (
    AudioOutput,
    Generation,
    ImageOutput,
    MissingOutput,
    PartialOutput,
    VideoOutput,
)
from mediagate.v1.generations_pb2 import WatchGenerationResponse
from mediagate.v1.image_pb2 import GenerateImageResponse, ImageFormat
from mediagate.v1.medium_pb2 import Media
from mediagate.v1.plan_pb2 import ParameterReport
from mediagate.v1.video_pb2 import GenerateVideoResponse
from tests.client.rpc_statuses import status
from tests.client.sample_generations import CANCELLED, FAILED, RUNNING
from tests.client.scripted_server import ScriptedServer

from .conftest import FILE, Mediagate

C = grpc.StatusCode
COST = Cost(usd_nanos=3_000_000, state=COST_STATE_SETTLED)


def pictures(uri: str, count: int = 1) -> Generation:
    media = [Media(uri=uri, media_type="image/png", width=64, height=32)] * count
    return Generation(
        id="gen-1",
        state=Generation.STATE_SUCCEEDED,
        model="a/b",
        images=ImageOutput(images=media),
        cost=COST,
    )


def begins(scripted: ScriptedServer, end: Generation) -> None:
    scripted.plays("GenerateImage", GenerateImageResponse(generation=RUNNING))
    scripted.plays("WatchGeneration", WatchGenerationResponse(generation=end, sequence=2))


def test_an_image_is_named_by_its_prompt(
    mediagate: Mediagate, scripted_server: ScriptedServer, files: str, tmp_path: Path
) -> None:
    """Stdout is the path alone; what it is and costs is said beside it."""
    begins(scripted_server, pictures(f"{files}/1"))
    done = mediagate("image", "A lighthouse, at dawn!", "--size", "64x32", "--seed", "0")
    assert done.exit_code == 0, done.output
    assert done.stdout == "a-lighthouse-at-dawn.png\n"
    accepted, *saved = done.stderr.splitlines()
    assert accepted == "gen-1: accepted"
    assert saved == ["  image/png, 1.2 kB, 64x32", "gen-1: a/b, $0.003 settled"]
    assert (tmp_path / "a-lighthouse-at-dawn.png").read_bytes() == FILE
    [sent] = scripted_server.requests_of("GenerateImage")
    assert (sent.size.width, sent.size.height) == (64, 32)
    assert sent.HasField("seed")
    assert sent.HasField("wait")
    assert sent.wait.seconds == 0


def test_existing_files_are_not_overwritten(
    mediagate: Mediagate, scripted_server: ScriptedServer, files: str, tmp_path: Path
) -> None:
    """Files of that name stay; several outputs each get a name of their own."""
    (tmp_path / "cat.png").write_text("mine")
    begins(scripted_server, pictures(f"{files}/1", 2))
    done = mediagate("image", "cat", "--count", "2")
    assert done.stdout == "cat-2.png\ncat-3.png\n"
    assert (tmp_path / "cat.png").read_text() == "mine"


@pytest.mark.parametrize(
    ("output", "count", "expected"),
    [
        ("made.png", 1, ["made.png"]),
        ("made.png", 2, ["made-1.png", "made-2.png"]),
        ("there", 1, ["there/cat.png"]),
        ("there", 2, ["there/cat.png", "there/cat-2.png"]),
    ],
)
def test_the_output_path_can_be_given(
    mediagate: Mediagate,
    scripted_server: ScriptedServer,
    files: str,
    tmp_path: Path,
    output: str,
    count: int,
    expected: list[str],
) -> None:
    """A file, which is written over where that is said; or a folder that is there."""
    (tmp_path / "there").mkdir()
    (tmp_path / "made.png").write_text("older")
    begins(scripted_server, pictures(f"{files}/1", count))
    if output == "made.png":
        assert mediagate("image", "cat", "-o", output).exit_code == 2
        assert scripted_server.heard == []
    done = mediagate("image", "cat", "-o", output, "--force")
    assert done.stdout.split() == expected
    assert all((tmp_path / name).read_bytes() == FILE for name in expected)


def test_adjusted_and_dropped_parameters_are_reported(
    mediagate: Mediagate, scripted_server: ScriptedServer, files: str
) -> None:
    """Adjusted and dropped parameters, missing outputs and the sandbox do not go unsaid."""
    end = pictures(f"{files}/1")
    end.sandbox = True
    end.parameters.add(parameter="seed", handling=ParameterReport.HANDLING_HONOURED)
    end.parameters.add(
        parameter="size", handling=ParameterReport.HANDLING_ADJUSTED, sent="1:1", reason="a shape"
    )
    missing = MissingOutput(index=1, error=status(C.FAILED_PRECONDITION, "RUN_FAILED", "it failed"))
    end.partial.CopyFrom(PartialOutput(missing=[missing]))
    begins(scripted_server, end)
    said = mediagate("image", "cat").stderr
    assert "  size adjusted: a shape\n" in said
    assert "  output 1 is missing: it failed\n" in said
    assert "from the sandbox: nothing was paid" in said
    assert "seed" not in said


def test_json_names_the_files(
    mediagate: Mediagate, scripted_server: ScriptedServer, files: str
) -> None:
    """One document on stdout, the id alone on stderr."""
    begins(scripted_server, pictures(f"{files}/1"))
    done = mediagate("image", "cat", "--json")
    document = json.loads(done.stdout)
    assert document["files"] == ["cat.png"]
    assert document["generation"]["state"] == "STATE_SUCCEEDED"
    assert document["generation"]["cost"]["usd"] == "0.003"
    assert done.stderr == "gen-1: accepted\n"


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (FAILED, "mediagate: the model ran and failed (RUN_FAILED, cost $0.04 settled)\n"),
        (CANCELLED, "mediagate: it was cancelled (CANCELLED, cost unknown)\n"),
    ],
)
def test_a_failure_is_reported_with_its_cost(
    mediagate: Mediagate, scripted_server: ScriptedServer, end: Generation, line: str
) -> None:
    """Exit code 3: it may have cost money, and how much is said."""
    begins(scripted_server, end)
    done = mediagate("image", "cat")
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == f"gen-1: accepted\n{line}"


def test_an_expired_link(
    mediagate: Mediagate, scripted_server: ScriptedServer, files: str, tmp_path: Path
) -> None:
    """The picture was made, but there is no file: no half one either."""
    begins(scripted_server, pictures(f"{files}/gone"))
    done = mediagate("image", "cat")
    assert done.exit_code == 3
    assert "the link is gone" in done.stderr
    assert "cost $0.003" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_detected_before_spending(
    mediagate: Mediagate, scripted_server: ScriptedServer
) -> None:
    """Nothing is made that could not be saved."""
    assert mediagate("image", "cat", "-o", "none/cat.png").exit_code == 2
    assert mediagate("image", "cat", "-o", "none/").exit_code == 2
    assert scripted_server.heard == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-o", "cat.png"], ImageFormat.IMAGE_FORMAT_PNG),
        (["-o", "cat.JPG"], ImageFormat.IMAGE_FORMAT_JPEG),
        (["-o", "cat.tiff"], ImageFormat.IMAGE_FORMAT_UNSPECIFIED),
        (["-o", "cat.png", "--format", "webp"], ImageFormat.IMAGE_FORMAT_WEBP),
        (["-o", "there.png"], ImageFormat.IMAGE_FORMAT_UNSPECIFIED),
        ([], ImageFormat.IMAGE_FORMAT_UNSPECIFIED),
    ],
)
def test_the_file_extension_selects_the_format(
    mediagate: Mediagate,
    scripted_server: ScriptedServer,
    files: str,
    tmp_path: Path,
    arguments: list[str],
    expected: ImageFormat,
) -> None:
    """The ending of `-o` asks for the format, unless one is asked for or it is a folder's."""
    (tmp_path / "there.png").mkdir()
    begins(scripted_server, pictures(f"{files}/1", 1))
    assert mediagate("image", "cat", *arguments).exit_code == 0
    [sent] = scripted_server.requests_of("GenerateImage")
    assert sent.output_format == expected


def test_a_full_disk(
    mediagate: Mediagate,
    scripted_server: ScriptedServer,
    files: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the system says about a file is one line too."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "cat.png")

    begins(scripted_server, pictures(f"{files}/1"))
    monkeypatch.setattr("mediagate_client.download.tempfile.NamedTemporaryFile", full)
    done = mediagate("image", "cat")
    assert done.exit_code == 3
    assert done.stderr.splitlines() == [
        "gen-1: accepted",
        "mediagate: cat.png: No space left on device",
        "  `mediagate save gen-1` gets what it made",
    ]


def test_a_video_from_an_image(
    mediagate: Mediagate, scripted_server: ScriptedServer, files: str, tmp_path: Path
) -> None:
    """A local picture travels with the request; the file is named after the prompt."""
    (tmp_path / "first.png").write_bytes(FILE)
    end = Generation(
        id="gen-1",
        state=Generation.STATE_SUCCEEDED,
        model="a/b",
        video=VideoOutput(
            video=Media(uri=f"{files}/v", media_type="video/mp4", duration=Duration(seconds=5))
        ),
        cost=COST,
    )
    scripted_server.plays("GenerateVideo", GenerateVideoResponse(generation=RUNNING))
    scripted_server.plays("WatchGeneration", WatchGenerationResponse(generation=end, sequence=2))
    done = mediagate(
        *("video", "waves", "--first-frame", "first.png", "--last-frame", "https://e.org/l.png"),
        *("-d", "5", "--fps", "24", "--resolution", "720p", "--no-audio", "--motion", "0.5"),
    )
    assert done.exit_code == 0, done.output
    assert done.stdout == "waves.mp4\n"
    assert "video/mp4, 1.2 kB, 5 s" in done.stderr
    [sent] = scripted_server.requests_of("GenerateVideo")
    assert sent.first_frame.inline.media_type == "image/png"
    assert sent.last_frame.uri == "https://e.org/l.png"
    assert (sent.duration.seconds, sent.fps, sent.resolution) == (5, 24, "720p")
    assert sent.HasField("generate_audio")
    assert not sent.generate_audio


def test_speech(mediagate: Mediagate, scripted_server: ScriptedServer, files: str) -> None:
    """Without a prompt the words spoken name the file."""
    end = Generation(
        id="gen-1",
        state=Generation.STATE_SUCCEEDED,
        audio=AudioOutput(audio=Media(uri=f"{files}/a", media_type="audio/wav")),
    )
    scripted_server.plays("GenerateAudio", GenerateAudioResponse(generation=end))
    done = mediagate("audio", "--text", "Good morning", "--kind", "speech", "--speed", "1.5")
    assert done.exit_code == 0, done.output
    assert done.stdout == "good-morning.wav\n"
    [sent] = scripted_server.requests_of("GenerateAudio")
    assert (sent.text, sent.prompt, sent.kind, sent.speed) == ("Good morning", "", 3, 1.5)


def test_an_oversized_file_is_not_sent(
    mediagate: Mediagate, scripted_server: ScriptedServer, tmp_path: Path
) -> None:
    """3.5 MiB within a request are refused here, the field named."""
    (tmp_path / "big.png").write_bytes(bytes(3_670_016))
    done = mediagate("video", "waves", "--first-frame", "big.png")
    assert done.exit_code == 1
    assert "(MEDIA_TOO_LARGE, first_frame)" in done.stderr
    assert scripted_server.heard == []
