"""Media are real: of the size, length and format asked for, the same every time, and served."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import shutil
import wave
from array import array
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from .conftest import Opener
from .sandbox_client import LLAMA, SCHNELL, SandboxClient

PRO = "black-forest-labs/flux-1.1-pro"
SDXL = "7762fd07cf82c948538e41f63f77d685e02b063e37e496e96eefd46c929f9bdc"
PLAYGROUND = "a45f82a1382bed5c7aeb861dac7c7d191b0fdf74d8d57c4a0e6ed7d4d0bf7d24"
MUSICGEN = "671ac645ce5e552cc63a54a2bbff63fcf798043055d2dac5fc9e36a837eedcfb"
BARK = "b76242b40d67c76ab6742e987628a2a9ac019e11d56ab96c4e91ce03b79b2787"
FRAME = "https://a.example/frame.png"


async def generated(caller: SandboxClient, version: str, given: dict[str, Any]) -> list[bytes]:
    """Run a model and fetch all its files."""
    document = await caller.ran(version, given)
    assert document["status"] == "succeeded", document["error"]
    output = document["output"]
    links = output if isinstance(output, list) else [output]
    return [(await fetched(caller, link)).body for link in links]


async def fetched(caller: SandboxClient, link: str, **headers: str) -> Any:
    """Fetch a file as anyone could: without a token."""
    answer = await caller.send("GET", link, Authorization="", **headers)
    assert answer.status in (200, 206)
    return answer


@pytest.mark.parametrize(
    ("version", "given", "size", "kind"),
    [
        (PRO, {}, (1024, 1024), "WEBP"),
        (PRO, {"aspect_ratio": "16:9", "output_format": "png"}, (1344, 768), "PNG"),
        (PRO, {"aspect_ratio": "custom", "width": 500, "height": 300}, (500, 300), "WEBP"),
        (SCHNELL, {"megapixels": "0.25", "output_format": "jpg"}, (512, 512), "JPEG"),
        ("google/nano-banana", {"aspect_ratio": "9:16"}, (768, 1344), "JPEG"),
        (SDXL, {"width": 641, "height": 33}, (641, 33), "PNG"),
        (SDXL, {"width": 16, "height": 16}, (16, 16), "PNG"),
        (PLAYGROUND, {}, (1024, 1024), "PNG"),
    ],
)
async def test_images(
    sandbox_client: SandboxClient,
    version: str,
    given: dict[str, Any],
    size: tuple[int, int],
    kind: str,
) -> None:
    """Exactly the size asked for, in the format asked for, and not one flat colour."""
    (content,) = await generated(sandbox_client, version, {"prompt": "A boat. " * 30, **given})
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        assert (image.size, image.format) == (size, kind)
        assert len(image.convert("RGB").resize((8, 8)).getcolors() or ()) > 4


async def test_images_depend_on_their_prompt(sandbox_client: SandboxClient) -> None:
    """Same seed, other words: another picture, but only where the words are."""
    given = {"seed": 5, "output_format": "png", "megapixels": "0.25"}
    pictures = []
    for prompt in ("one boat", "two boats", "one boat"):
        (content,) = await generated(sandbox_client, SCHNELL, {"prompt": prompt, **given})
        pictures.append(Image.open(io.BytesIO(content)).convert("RGB"))
    assert pictures[0].tobytes() == pictures[2].tobytes()
    assert pictures[0].tobytes() != pictures[1].tobytes()
    upper = (0, 0, 512, 200)
    assert pictures[0].crop(upper).tobytes() == pictures[1].crop(upper).tobytes()


async def test_seeds_determine_the_output(open_sandbox: Opener) -> None:
    """The sandbox's seed decides unless the input has one; outputs of one run differ."""
    files_by_seed, given = {}, {"prompt": "x", "megapixels": "0.25", "num_outputs": 2}
    for seed in (1, 2):
        async with open_sandbox(seed=seed) as caller:
            files_by_seed[seed] = await generated(caller, SCHNELL, given)
            files_by_seed[seed] += await generated(caller, SCHNELL, {**given, "seed": 9})
            assert files_by_seed[seed][:2] == await generated(caller, SCHNELL, given)
    assert len({*files_by_seed[1][:2], *files_by_seed[2][:2]}) == 4
    assert files_by_seed[1][2:] == files_by_seed[2][2:]


async def test_wav(sandbox_client: SandboxClient) -> None:
    """Length, rate and channels as asked, and something to hear all along."""
    given = {"prompt": "rain", "duration": 3, "model_version": "stereo-large"}
    (content,) = await generated(sandbox_client, MUSICGEN, given)
    with wave.open(io.BytesIO(content)) as sound:
        assert (sound.getnchannels(), sound.getframerate()) == (2, 32_000)
        assert sound.getnframes() == 3 * 32_000
        samples = array("h", sound.readframes(sound.getnframes()))
    for second in range(3):
        samples_of_second = samples[second * 64_000 : (second + 1) * 64_000]
        assert 3_000 < max(samples_of_second) < 32_767


@pytest.mark.parametrize(
    ("version", "given", "seconds", "rate", "channels"),
    [
        (MUSICGEN, {"duration": 2, "output_format": "mp3", "model_version": "large"}, 2, 32_000, 1),
        ("stability-ai/stable-audio-2.5", {"prompt": "x", "duration": 5}, 5, 44_100, 2),
        ("minimax/speech-02-hd", {"text": "x" * 42}, 3, 32_000, 1),
        (
            "minimax/speech-02-turbo",
            {"text": "x" * 42, "speed": 2, "channel": "stereo", "sample_rate": 22_050},
            1.5,
            22_050,
            2,
        ),
    ],
)
async def test_mp3(
    sandbox_client: SandboxClient,
    version: str,
    given: dict[str, Any],
    seconds: float,
    rate: int,
    channels: int,
) -> None:
    """Length, rate and channels as asked; speech is as long as its text."""
    (content,) = await generated(sandbox_client, version, given)
    with av.open(io.BytesIO(content), "r") as sound:
        stream = sound.streams.audio[0]
        assert (stream.rate, stream.channels) == (rate, channels)
        decoded = sum(frame.samples for frame in sound.decode(audio=0))
    assert decoded / rate == pytest.approx(seconds, abs=0.1)


async def test_bark_answers_with_an_object(sandbox_client: SandboxClient) -> None:
    """Its sound is in `audio_out`, and no longer than 13 seconds."""
    document = await sandbox_client.ran(BARK, {"prompt": "hello " * 100})
    assert list(document["output"]) == ["audio_out"]
    answer = await fetched(sandbox_client, document["output"]["audio_out"])
    with wave.open(io.BytesIO(answer.body)) as sound:
        assert sound.getnframes() == 13 * sound.getframerate()


@pytest.mark.parametrize(
    ("version", "given", "size", "fps", "seconds", "sound"),
    [
        ("minimax/hailuo-02", {"resolution": "512p"}, (910, 512), 24, 6, False),
        (
            "bytedance/seedance-1-pro",
            {"duration": 2, "resolution": "480p", "aspect_ratio": "9:16"},
            (480, 854),
            24,
            2,
            False,
        ),
        (
            "google/veo-3-fast",
            {"duration": 4, "resolution": "720p"},
            (1280, 720),
            24,
            4,
            True,
        ),
        ("kwaivgi/kling-v2.1", {"start_image": FRAME}, (1280, 720), 24, 5, False),
    ],
)
async def test_videos(
    sandbox_client: SandboxClient,
    version: str,
    given: dict[str, Any],
    size: tuple[int, int],
    fps: int,
    seconds: int,
    sound: bool,
) -> None:
    """Size, frame rate and length as asked; the picture moves; sound where it was asked for."""
    (content,) = await generated(sandbox_client, version, {"prompt": "A boat", **given})
    with av.open(io.BytesIO(content), "r") as film:
        video = film.streams.video[0]
        assert (video.width, video.height) == size
        assert video.average_rate == fps
        assert video.frames == seconds * fps
        assert film.duration == seconds * av.time_base
        assert bool(film.streams.audio) == sound
        frames = [bytes(frame.planes[0]) for frame in film.decode(video=0)]
        assert len(set(frames)) > len(frames) // 2


async def test_videos_without_audio(sandbox_client: SandboxClient) -> None:
    """A model that makes sound leaves it out when told to."""
    given = {"prompt": "x", "duration": 4, "resolution": "720p", "generate_audio": False}
    (content,) = await generated(sandbox_client, "google/veo-3-fast", given)
    with av.open(io.BytesIO(content), "r") as film:
        assert not film.streams.audio


async def test_ffprobe_agrees(sandbox_client: SandboxClient, tmp_path: Path) -> None:
    """An independent reader finds the same size, rate and length."""
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed (Debian package ffmpeg)")
    given = {"prompt": "x", "duration": 3, "resolution": "720p"}
    (film,) = await generated(sandbox_client, "bytedance/seedance-1-lite", given)
    (sound,) = await generated(sandbox_client, MUSICGEN, {"prompt": "x", "duration": 3})
    for content, expected in (
        (film, {"codec_name": "h264", "width": 1280, "height": 720, "r_frame_rate": "24/1"}),
        (sound, {"codec_name": "pcm_s16le", "sample_rate": "32000", "channels": 2}),
    ):
        path = tmp_path / "media"
        path.write_bytes(content)
        probe = await asyncio.create_subprocess_exec(
            "ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_format", str(path),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        report = json.loads((await probe.communicate())[0])
        assert expected.items() <= report["streams"][0].items()
        assert float(report["format"]["duration"]) == pytest.approx(3, abs=0.01)


async def test_files_are_served_with_cdn_headers(sandbox_client: SandboxClient) -> None:
    """Type, length and cache headers; HEAD; no token; no such file."""
    document = await sandbox_client.ran(SCHNELL, {"prompt": "x", "output_format": "png"})
    (link,) = document["output"]
    answer = await fetched(sandbox_client, link)
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert answer.headers["Cache-Control"] == "public,max-age=3600"
    assert answer.headers["Accept-Ranges"] == "bytes"
    head = await sandbox_client.send("HEAD", link)
    assert head.headers["Content-Length"] == str(len(answer.body))
    assert head.body == b""
    assert (await sandbox_client.get(link.replace("out-0", "out-1"))).status == 404
    assert (
        await sandbox_client.get(sandbox_client.sandbox.url + "/files/none/out-0.png")
    ).status == 404


@pytest.mark.parametrize(
    ("range_header", "expected"),
    [("bytes=0-9", slice(0, 10)), ("bytes=10-", slice(10, None)), ("bytes=-7", slice(-7, None))],
)
async def test_byte_ranges(
    sandbox_client: SandboxClient, range_header: str, expected: slice
) -> None:
    """206 with that part; 416 past the end; what is no range is answered whole."""
    document = await sandbox_client.ran(SCHNELL, {"prompt": "x", "megapixels": "0.25"})
    (link,) = document["output"]
    content = (await fetched(sandbox_client, link)).body
    answer = await fetched(sandbox_client, link, Range=range_header)
    assert (answer.status, answer.body) == (206, content[expected])
    start, stop, _ = expected.indices(len(content))
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(content)}"
    beyond = await sandbox_client.send("GET", link, Range=f"bytes={len(content)}-")
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{len(content)}")
    for other in ("lines=1-2", "bytes=9-3", "bytes=0-1,4-5"):
        assert (await fetched(sandbox_client, link, Range=other)).body == content


async def test_conditional_requests(sandbox_client: SandboxClient) -> None:
    """ETag and Last-Modified; 304 for the file that a caller has, 412 for one that it has not."""
    document = await sandbox_client.ran(SCHNELL, {"prompt": "x", "megapixels": "0.25"})
    (link,) = document["output"]
    answer_in_full = await fetched(sandbox_client, link)
    etag, modified = answer_in_full.headers["ETag"], answer_in_full.headers["Last-Modified"]
    assert etag == f'"{hashlib.md5(answer_in_full.body, usedforsecurity=False).hexdigest()}"'
    ended = datetime.fromisoformat(document["completed_at"]).replace(microsecond=0)
    assert parsedate_to_datetime(modified) == ended
    for headers, status in (
        ({"If_None_Match": etag}, 304),
        ({"If_None_Match": f'"other", W/{etag}'}, 304),
        ({"If_None_Match": "*"}, 304),
        ({"If_None_Match": '"other"'}, 200),
        ({"If_None_Match": '"other"', "If_Modified_Since": modified}, 200),
        ({"If_None_Match": etag, "Range": "bytes=0-9"}, 304),
        ({"If_Modified_Since": modified}, 304),
        ({"If_Modified_Since": "Thu, 01 Jan 2015 00:00:00 GMT"}, 200),
        ({"If_Modified_Since": "yesterday"}, 200),
        ({"If_Match": etag}, 200),
        ({"If_Match": '"other"'}, 412),
        ({"If_Unmodified_Since": "Thu, 01 Jan 2015 00:00:00 GMT"}, 412),
        ({"If_Range": etag, "Range": "bytes=0-9"}, 206),
        ({"If_Range": modified, "Range": "bytes=0-9"}, 206),
        ({"If_Range": '"other"', "Range": "bytes=0-9"}, 200),
        ({"If_Range": '"other"', "Range": "bytes=99999999-"}, 200),
    ):
        answer = await sandbox_client.send("GET", link, Authorization="", **headers)
        assert answer.status == status, headers
        assert answer.headers["ETag"] == etag
        bodies_by_status = {200: answer_in_full.body, 206: answer_in_full.body[:10], 304: b""}
        assert answer.body == bodies_by_status.get(status, answer.body)


async def test_files_and_streams_are_read_by_browsers(sandbox_client: SandboxClient) -> None:
    """CORS for any origin, also on errors; preflights take no token; the API has none."""
    document = await sandbox_client.ran(SCHNELL, {"prompt": "x", "megapixels": "0.25"})
    text = await sandbox_client.ran(LLAMA, {"prompt": "x"})
    asks = {"Origin": "https://page.example", "Access_Control_Request_Method": "GET"}
    for link in (document["output"][0], text["urls"]["stream"]):
        for url, status in ((link, 200), (f"{link}x", 404)):
            answer = await sandbox_client.get(url, Origin="https://page.example")
            assert answer.status == status
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert "Content-Range" in answer.headers["Access-Control-Expose-Headers"]
        preflight = await sandbox_client.send(
            "OPTIONS", link, Authorization="", Access_Control_Request_Headers="range", **asks
        )
        assert preflight.status == 204
        assert preflight.headers["Access-Control-Allow-Headers"] == "range"
        assert "GET" in preflight.headers["Access-Control-Allow-Methods"]
    api = await sandbox_client.get(document["urls"]["get"], Origin="https://page.example")
    assert "Access-Control-Allow-Origin" not in api.headers
    preflight = await sandbox_client.send("OPTIONS", document["urls"]["get"], **asks)
    assert preflight.status == 405


async def test_no_file_before_the_end(sandbox_client: SandboxClient) -> None:
    """A run that is not over, or that failed, has left nothing to read."""
    hanging = await sandbox_client.created(SCHNELL, {"prompt": "x [[hang]]"})
    assert hanging["output"] is None
    failed = await sandbox_client.ran(SCHNELL, {"prompt": "x [[fail=no]]"})
    assert failed["output"] is None


async def test_evicted_files_are_regenerated(open_sandbox: Opener) -> None:
    """What was dropped is the same when it is made again."""
    async with open_sandbox(media_cache_bytes=1) as caller:
        given = {"prompt": "x", "megapixels": "0.25", "num_outputs": 2}
        document = await caller.ran(SCHNELL, given)
        first = [(await fetched(caller, link)).body for link in document["output"]]
        assert [(await fetched(caller, link)).body for link in document["output"]] == first


async def test_small_files_are_quick_and_billed_as_if_large(open_sandbox: Opener) -> None:
    """Every format is what it says, in tiny; nothing else shows that it is not the whole."""
    async with open_sandbox(small_files=True, time_scale=0) as caller:
        picture = await caller.ran(SCHNELL, {"prompt": "x", "aspect_ratio": "21:9"})
        film = await caller.ran("minimax/video-01", {"prompt": "x"})
        sound = await caller.ran("stability-ai/stable-audio-2.5", {"prompt": "x", "duration": 7})
        image = Image.open(io.BytesIO((await caller.get(picture["output"][0])).body))
        assert max(image.size) == 64
        for document, kind in ((film, "video"), (sound, "audio")):
            body = (await caller.get(document["output"])).body
            with av.open(io.BytesIO(body), "r") as media:
                assert media.streams.get(**{kind: 0})
                assert media.duration is not None
                assert 0.4 <= media.duration / av.time_base <= 0.7
        assert film["metrics"]["video_output_duration_seconds"] > 5
        assert sound["metrics"]["audio_output_duration_seconds"] == 7
