"""`mediagate upload` and `save`, and what a server keeps as input."""

import hashlib
import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from mediagate.v1.generation_pb2 import Generation, ImageOutput
from mediagate.v1.generations_pb2 import GetGenerationResponse
from mediagate.v1.media_pb2 import ReadMediaResponse, UploadMediaResponse
from mediagate.v1.medium_pb2 import Media
from mediagate.v1.video_pb2 import GenerateVideoResponse
from tests.client.rpc_statuses import status
from tests.client.scripted_server import ScriptedServer

from .conftest import FILE, Mediagate

SHA = hashlib.sha256(FILE).hexdigest()


def uploaded() -> UploadMediaResponse:
    """What a server says that has got the file."""
    answer = UploadMediaResponse(
        upload_id="upl_1", size_bytes=len(FILE), sha256=SHA, media_type="image/png"
    )
    answer.expire_time.FromJsonString("2026-11-25T09:30:00Z")
    return answer


def test_an_upload_prints_its_id(
    mediagate: Mediagate, scripted_server: ScriptedServer, tmp_path: Path
) -> None:
    """On stdout alone; what it is beside it. As JSON: all of it."""
    (tmp_path / "cat.png").write_bytes(FILE)
    scripted_server.plays("UploadMedia", uploaded())
    done = mediagate("upload", "cat.png")
    assert done.exit_code == 0, done.output
    assert done.stdout == "upl_1\n"
    assert done.stderr == "  image/png, 1.2 kB, kept until 2026-11-25 09:30 UTC\n"
    scripted_server.plays("UploadMedia", uploaded())
    done = mediagate("upload", "cat.png", "--type", "image/x-cat", "--json")
    assert json.loads(done.stdout)["sha256"] == SHA
    first, second = scripted_server.requests_of("UploadMedia")
    assert first[0].metadata.media_type == "image/png"
    assert second[0].metadata.media_type == "image/x-cat"


def test_files_that_cannot_be_uploaded(
    mediagate: Mediagate, scripted_server: ScriptedServer, tmp_path: Path
) -> None:
    """Refused, the reason said."""
    (tmp_path / "empty").touch()
    for name in ("empty", "missing"):
        done = mediagate("upload", name)
        assert done.exit_code == 1
        assert "(INVALID_REQUEST, source)" in done.stderr
    (tmp_path / "film.mp4").write_bytes(FILE)
    refusal = status(
        grpc.StatusCode.INVALID_ARGUMENT, "MEDIA_TOO_LARGE", fields=["metadata.size_bytes"]
    )
    scripted_server.plays("UploadMedia", refusal)
    done = mediagate("upload", "film.mp4")
    assert done.exit_code == 1
    assert "MEDIA_TOO_LARGE" in done.stderr


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("gen_a1", "output", {"generation_id": "gen_a1"}),
        ("gen_a1/3", "output", {"generation_id": "gen_a1", "index": 3}),
        ("upl_a1", "upload_id", "upl_a1"),
        ("https://e.org/gen_a1", "uri", "https://e.org/gen_a1"),
    ],
)
def test_ids_and_urls_as_media(
    text: str, field: str, value: Any, mediagate: Mediagate, scripted_server: ScriptedServer
) -> None:
    """The id of what the server keeps, or a URL."""
    failed = Generation(id="gen_2", state=Generation.STATE_FAILED)
    scripted_server.plays("GenerateVideo", GenerateVideoResponse(generation=failed))
    mediagate("video", "waves", "--first-frame", text)
    [sent] = scripted_server.requests_of("GenerateVideo")
    assert sent.first_frame.WhichOneof("source") == field
    chosen = getattr(sent.first_frame, field)
    if isinstance(value, dict):
        value = type(chosen)(**value)
    assert chosen == value


def test_a_file_named_like_an_id_comes_first(
    mediagate: Mediagate, scripted_server: ScriptedServer, tmp_path: Path
) -> None:
    """Whoever has a file called like an id means the file."""
    (tmp_path / "gen_a1").write_bytes(FILE)
    failed = Generation(id="gen_2", state=Generation.STATE_FAILED)
    scripted_server.plays("GenerateVideo", GenerateVideoResponse(generation=failed))
    mediagate("video", "waves", "--first-frame", "gen_a1")
    [sent] = scripted_server.requests_of("GenerateVideo")
    assert sent.first_frame.inline.data == FILE


def test_outputs_are_saved_later(
    mediagate: Mediagate, scripted_server: ScriptedServer, tmp_path: Path
) -> None:
    """From the server itself, once their link has died."""
    medium = Media(id="gen_1/0", media_type="image/png", size_bytes=len(FILE), sha256=SHA)
    failed = Generation(
        id="gen_1",
        state=Generation.STATE_SUCCEEDED,
        model="a/b",
        images=ImageOutput(images=[medium]),
    )
    scripted_server.plays("GetGeneration", GetGenerationResponse(generation=failed))
    scripted_server.plays(
        "ReadMedia", ReadMediaResponse(media=medium), ReadMediaResponse(chunk=FILE)
    )
    done = mediagate("save", "gen_1")
    assert done.exit_code == 0, done.output
    assert done.stdout == "gen-1.png\n"
    assert (tmp_path / "gen-1.png").read_bytes() == FILE
