"""What a file is, read from the file itself; and nothing at all where it is broken."""

import io
from fractions import Fraction
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mediagate_sandbox.files import render_file
from mediagate_sandbox.generators.spec import AudioRecipe, ImageRecipe, VideoRecipe
from mediagate_server.media import mp4, webm
from mediagate_server.media.bounded_reader import BoundedFile
from mediagate_server.media.probe import ProbeResult, detect_media_type, probe_file


def film(
    container: str, codec: str, *, seconds: int = 2, into: Path | None = None, **options: str
) -> bytes:
    """A black film of 64x48, ten frames a second; by way of a file where the format needs one."""
    buffer = io.BytesIO()
    with av.open(into or buffer, "w", format=container, options=options) as out:
        stream = out.add_stream(codec, rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = Fraction(1, 10)
        for number in range(seconds * 10):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return into.read_bytes() if into else buffer.getvalue()


def sound(container: str, codec: str, *, seconds: int = 2, rate: int = 48_000) -> bytes:
    """Silence."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate)
        assert isinstance(stream, av.AudioStream)
        layout = stream.layout.name
        size = stream.codec_context.frame_size or 960
        form = stream.format.name
        for number in range(seconds * rate // size):
            frame = av.AudioFrame(form, layout, size)
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.rate = rate
            frame.pts = number * size
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def picture(form: str) -> bytes:
    """64x48 pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, form)
    return buffer.getvalue()


def box(kind: bytes, content: bytes = b"") -> bytes:
    """A box of an MP4 file."""
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def read(content: bytes, folder: Path) -> tuple[str, ProbeResult]:
    """Its type and its looks, as a file in the folder."""
    path = folder / "file"
    path.write_bytes(content)
    media_type = detect_media_type(content[:64])
    return media_type, probe_file(path, media_type)


@pytest.mark.parametrize(
    ("form", "media_type"),
    [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp"), ("GIF", "image/gif")],
)
def test_images(form: str, media_type: str, tmp_path: Path) -> None:
    """Pixels, whatever the format."""
    assert read(picture(form), tmp_path) == (media_type, ProbeResult(64, 48))


@pytest.mark.parametrize(
    ("container", "codec", "media_type"),
    [
        ("mp4", "libx264", "video/mp4"),
        ("mov", "libx264", "video/quicktime"),
        ("webm", "libvpx", "video/webm"),
    ],
)
def test_videos(container: str, codec: str, media_type: str, tmp_path: Path) -> None:
    """Pixels and seconds."""
    detected_type, probe_result = read(film(container, codec), tmp_path)
    assert (detected_type, probe_result.width, probe_result.height) == (media_type, 64, 48)
    assert probe_result.seconds == pytest.approx(2, abs=0.2)


def test_the_header_may_be_at_the_end_or_in_fragments(tmp_path: Path) -> None:
    """As streaming encoders write it. A fragmented film does not say how long it is."""
    begun = film("mp4", "libx264", into=tmp_path / "begun.mp4", movflags="faststart")
    assert begun.index(b"moov") < begun.index(b"mdat")
    early = read(begun, tmp_path)[1]
    assert (early.width, early.height) == (64, 48)
    assert early.seconds == pytest.approx(2, abs=0.2)
    split = read(film("mp4", "libx264", movflags="frag_keyframe+empty_moov"), tmp_path)[1]
    assert (split.width, split.height, split.seconds) == (64, 48, None)


def test_a_long_fragmented_video(tmp_path: Path) -> None:
    """Two hours of them, and the header behind: as many boxes as a file may have."""
    film_header = bytes(12) + (1_000).to_bytes(4, "big") + (7_200_000).to_bytes(4, "big")
    header = box(b"moov", box(b"mvhd", film_header))
    content = box(b"ftyp", b"isom" + bytes(4)) + (box(b"moof") + box(b"mdat")) * 3_600 + header
    assert read(content, tmp_path)[1].seconds == 7_200


@pytest.mark.parametrize(
    ("container", "codec", "media_type"),
    [
        ("wav", "pcm_s16le", "audio/wav"),
        ("mp3", "libmp3lame", "audio/mpeg"),
        ("flac", "flac", "audio/flac"),
        ("ogg", "libopus", "audio/ogg"),
        ("ipod", "aac", "audio/mp4"),
    ],
)
def test_audio(container: str, codec: str, media_type: str, tmp_path: Path) -> None:
    """Seconds, and no pixels."""
    detected_type, probe_result = read(sound(container, codec), tmp_path)
    assert (detected_type, probe_result.width, probe_result.height) == (media_type, None, None)
    assert probe_result.seconds == pytest.approx(2, abs=0.15)


def test_media_of_the_sandbox(tmp_path: Path) -> None:
    """The size and length that were asked for."""
    image = render_file(ImageRecipe("a/b", "x", 1, 320, 192, "jpg"))
    assert read(image, tmp_path)[1] == ProbeResult(320, 192)
    audio = render_file(AudioRecipe(1, 1.5, 32_000, 1, "wav"))
    assert read(audio, tmp_path)[1] == ProbeResult(seconds=1.5)
    video = render_file(VideoRecipe("a/b", "x", 1, 320, 192, 1.0, 8, sound=True))
    assert read(video, tmp_path)[1] == ProbeResult(320, 192, 1.0)


def test_a_rotated_video(tmp_path: Path) -> None:
    """The matrix of the track's header says how it is shown."""
    content = bytearray(film("mp4", "libx264"))
    at = content.index(b"tkhd") + 4 + 40
    quarter_turn = (0, 1 << 16, 0, 0xFFFF0000, 0, 0, 64 << 16, 0, 1 << 30)
    content[at : at + 36] = b"".join(number.to_bytes(4, "big") for number in quarter_turn)
    probe_result = read(bytes(content), tmp_path)[1]
    assert (probe_result.width, probe_result.height) == (48, 64)


def test_sources_of_the_media_type() -> None:
    """The file itself, then whoever declared one first; a parameter is no part of it."""
    assert detect_media_type(b"\x89PNG\r\n\x1a\n...", "text/html") == "image/png"
    assert detect_media_type(b"{}", "", "application/json; charset=utf-8") == "application/json"
    assert (
        detect_media_type(b"{}", "nonsense", "application/octet-stream", "model/obj") == "model/obj"
    )
    assert detect_media_type(b"{}", "") == "application/octet-stream"
    assert detect_media_type(b"{}", "image/png", "image/x-other") == "image/x-other"
    assert detect_media_type(b"{}", "image/png") == "application/octet-stream"


FILES = (
    film("mp4", "libx264", seconds=1),
    film("webm", "libvpx", seconds=1),
    sound("ogg", "libopus", seconds=1),
    sound("flac", "flac", seconds=1),
    picture("PNG"),
    picture("JPEG"),
)


@given(data=st.data())
def test_a_damaged_file_is_probed_safely(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Cut anywhere, with any bytes changed: every answer is a sane one, and there is one."""
    damaged = data.draw(st.sampled_from(FILES))
    content = bytearray(damaged[: data.draw(st.integers(12, len(damaged)))])
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(12, len(content)) | st.just(12)) - 1] = data.draw(
            st.integers(0, 255)
        )
    path = tmp_path_factory.getbasetemp() / "broken"
    path.write_bytes(content)
    probe_result = probe_file(path, detect_media_type(damaged[:64]))
    assert probe_result.width is None or 0 < probe_result.width <= 1_000_000
    assert (probe_result.width is None) == (probe_result.height is None)
    assert probe_result.seconds is None or 0 < probe_result.seconds <= 1e8


@given(content=st.binary(max_size=400))
def test_no_bytes_crash_the_probe(content: bytes) -> None:
    """They find something or nothing; they never go on for ever."""
    for reader in (mp4.read_mp4_header, webm.read_webm_header):
        for start in (b"", b"\0\0\1\0moov", b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff"):
            detected_type = reader(BoundedFile(io.BytesIO(start + content)))
            assert isinstance(detected_type, mp4.VideoHeader)
