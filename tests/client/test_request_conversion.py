"""From what a caller has at hand to fields of a request."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from mediagate.v1.audio_pb2 import AUDIO_KIND_SOUND_EFFECT, GenerateAudioRequest
from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.generations_pb2 import GenerationFilter
from mediagate.v1.image_pb2 import GenerateImageRequest
from mediagate.v1.media_pb2 import UploadMediaResponse
from mediagate.v1.medium_pb2 import InlineMedia, Media, MediaInput, OutputRef
from mediagate.v1.modality_pb2 import QUALITY_PREMIUM
from mediagate.v1.options_pb2 import FallbackPolicy, GenerationOptions
from mediagate.v1.text_pb2 import (
    ChatMessage,
    GenerateTextRequest,
    ResponseFormat,
    StreamTextRequest,
    ToolChoice,
)
from mediagate.v1.video_pb2 import GenerateVideoRequest
from mediagate_client import (
    Client,
    InvalidRequest,
    MediaTooLarge,
    assistant,
    media_input,
    system,
    user,
)
from mediagate_client.conversion import fill, seconds_of
from mediagate_client.media_inputs import MAX_INLINE_BYTES, sniff
from mediagate_client.messages import tool_result
from mediagate_client.requests import billable_request, rpc_seconds

PNG = b"\x89PNG\r\n\x1a\n" + bytes(24)


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "audio/wav"),
        (b"\x00\x00\x00\x20ftypisom", "video/mp4"),
        (b"\x00\x00\x00\x20ftypM4A ", "audio/mp4"),
        (b"\x1aE\xdf\xa3", "video/webm"),
        (b"ID3\x04", "audio/mpeg"),
        (b"\xff\xfb\x90", "audio/mpeg"),
        (b"fLaC", "audio/flac"),
        (b"OggS", "audio/ogg"),
        (b"GIF89a", "image/gif"),
        (b"hello", ""),
    ],
)
def test_the_media_type_is_read_from_the_content(data: bytes, media_type: str) -> None:
    """What is sent names its type, so that a model need not guess; the unknown is not guessed."""
    assert sniff(data) == media_type


def test_every_source_of_a_medium(tmp_path: Path) -> None:
    """A URL, a path as str or Path, bytes, an output, a whole generation, or the message."""
    file = tmp_path / "cat.png"
    file.write_bytes(PNG)
    inline = MediaInput(inline=InlineMedia(data=PNG, media_type="image/png"))
    ref = OutputRef(generation_id="g", index=2)
    assert media_input("https://example.com/a.png").uri == "https://example.com/a.png"
    assert media_input(file) == media_input(str(file)) == media_input(PNG) == inline
    assert media_input(inline) is inline
    assert media_input(InlineMedia(data=PNG, media_type="image/png")) == inline
    assert media_input(ref).output == ref
    assert media_input(Generation(id="g")).output == OutputRef(generation_id="g", index=0)
    assert media_input(Media(id="gen_1/2", uri="https://a/b")).output.index == 2
    assert media_input(Media(uri="https://a/b")).uri == "https://a/b"
    assert media_input(UploadMediaResponse(upload_id="upl_1")).upload_id == "upl_1"


def test_ids_of_stored_media_are_not_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An output's, or an upload's; a file of that name goes first, and what is neither is told."""
    monkeypatch.chdir(tmp_path)
    assert media_input("gen_01ab").output == OutputRef(generation_id="gen_01ab")
    assert media_input("gen_01ab/2").output == OutputRef(generation_id="gen_01ab", index=2)
    assert media_input("upl_01ab").upload_id == "upl_01ab"
    request = billable_request(GenerateVideoRequest, "rain", {"first_frame": "gen_01ab"})
    assert request.first_frame.output.generation_id == "gen_01ab"
    for path in ("gen_01ab/", "gen-01ab", "gen_1.png", "upl_1/2"):
        with pytest.raises(InvalidRequest, match="cannot read"):
            media_input(path)
    (tmp_path / "gen_01ab").write_bytes(PNG)
    assert media_input("gen_01ab").inline.data == PNG


def test_the_media_type_falls_back_to_the_file_name(tmp_path: Path) -> None:
    """An SVG has no signature, but a suffix."""
    file = tmp_path / "drawing.svg"
    file.write_text("<svg/>")
    assert media_input(file).inline.media_type == "image/svg+xml"


def test_media_sizes_are_checked_before_sending(tmp_path: Path) -> None:
    """3 MiB may travel inline, one byte more may not, an empty file never."""
    file = tmp_path / "big.png"
    file.write_bytes(bytes(MAX_INLINE_BYTES))
    assert len(media_input(file).inline.data) == MAX_INLINE_BYTES
    file.write_bytes(bytes(MAX_INLINE_BYTES + 1))
    for source in (
        file,
        bytes(MAX_INLINE_BYTES + 1),
        MediaInput(inline=InlineMedia(data=bytes(MAX_INLINE_BYTES + 1))),
    ):
        with pytest.raises(MediaTooLarge) as raised:
            media_input(source, "mask")
        assert raised.value.violations[0].field == "mask"
        assert raised.value.metadata["limit_bytes"] == str(3 * 1024 * 1024)
    with pytest.raises(InvalidRequest, match="empty"):
        media_input(b"")
    with pytest.raises(InvalidRequest, match="cannot read"):
        media_input(tmp_path)
    with pytest.raises(InvalidRequest, match="not a medium"):
        media_input(7)  # type: ignore[arg-type]


def test_options_and_fields_are_mapped() -> None:
    """Python's words for everything that is not a plain value."""
    request = billable_request(
        GenerateTextRequest,
        "Why?",
        {
            "model": "claude",
            "quality": "premium",
            "fallback": ["a/b", "c/d"],
            "timeout": timedelta(minutes=2),
            "reuse_within": 60,
            "parameter_mode": "strict",
            "labels": {"team": "a"},
            "model_parameters": {"depth": 2, "tags": ["x"]},
            "seed": 0,
            "reasoning_effort": "low",
            "response_format": {"type": "object"},
            "tools": [{"name": "look", "parameters": {"type": "object"}}],
            "tool_choice": "look",
            "stop_sequences": ["END"],
            "wait": 1.5,
            "top_p": None,
        },
    )
    options = request.options
    assert options.quality == QUALITY_PREMIUM
    assert options.fallback == FallbackPolicy(mode=FallbackPolicy.MODE_LIST, models=["a/b", "c/d"])
    assert options.timeout.seconds == 120
    assert options.reuse_within.seconds == 60
    assert dict(options.labels) == {"team": "a"}
    assert options.model_parameters["depth"] == 2
    assert request.HasField("seed")
    assert not request.HasField("top_p")
    assert request.response_format.kind == ResponseFormat.KIND_JSON_SCHEMA
    assert request.tools[0].parameters["type"] == "object"
    assert request.tool_choice == ToolChoice(mode=ToolChoice.MODE_NAMED, name="look")
    assert request.wait == Duration(seconds=1, nanos=500_000_000)


def test_alternative_forms_of_values() -> None:
    """Names, numbers and ready-made messages are all taken."""
    ready = GenerationOptions(model="a/b", screen_prompt=True)
    audio = billable_request(
        GenerateAudioRequest, "wind", {"options": ready, "kind": AUDIO_KIND_SOUND_EFFECT}
    )
    assert audio.options.model == "a/b"
    assert audio.options.screen_prompt
    assert not ready.HasField("disconnect_grace")
    text = billable_request(
        GenerateTextRequest,
        "",
        {
            "fallback": "none",
            "response_format": "json",
            "tool_choice": "required",
            "on_disconnect": "detach",
            "disconnect_grace": 90,
        },
    )
    assert text.options.fallback.mode == FallbackPolicy.MODE_NONE
    assert text.response_format.kind == ResponseFormat.KIND_JSON
    assert text.tool_choice.mode == ToolChoice.MODE_REQUIRED
    assert text.options.disconnect_grace.seconds == 90
    image = billable_request(
        GenerateImageRequest, "x", {"size": "640x480", "loras": ["https://e.org/l"], "mask": PNG}
    )
    assert (image.size.width, image.size.height) == (640, 480)
    assert image.loras[0].uri == "https://e.org/l"
    chosen = GenerationFilter()
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    fill(chosen, {"created_after": moment, "modality": "video"})
    assert chosen.created_after.ToDatetime(UTC) == moment


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("quality", "best"),
        ("timeout", "soon"),
        ("timeout", True),
        ("labels", 3),
        ("model", 3),
        ("fallback", 3),
        ("model_parameters", [1]),
        ("model_parameters", {"x": object()}),
        ("max_cost_usd_nanos", 2**70),
        ("size", "big"),
        ("size", (1, 2, 3)),
        ("seed", "x"),
        ("count", 2**40),
        ("reference_images", "cat.png"),
        ("loras", [3]),
        ("output_format", "bmp"),
    ],
)
def test_an_invalid_value_names_its_field(field: str, value: object) -> None:
    """A typed error before anything is sent, not a protobuf riddle."""
    with pytest.raises(InvalidRequest) as raised:
        billable_request(GenerateImageRequest, "x", {field: value})
    assert raised.value.violations[0].field == field


def test_an_unknown_keyword_is_a_type_error() -> None:
    """As for any Python function."""
    with pytest.raises(TypeError, match="colour"):
        billable_request(GenerateImageRequest, "x", {"colour": "red"})
    with pytest.raises(TypeError, match="seed"):
        billable_request(GenerateImageRequest, GenerateImageRequest(prompt="x"), {"seed": 1})


def test_every_call_has_a_request_id() -> None:
    """A UUID where the caller gave none, the caller's own where it did."""
    request_ids = {billable_request(StreamTextRequest, "x", {}).request_id for _ in range(3)}
    assert len({uuid.UUID(name) for name in request_ids}) == 3
    assert billable_request(StreamTextRequest, "x", {"request_id": "mine"}).request_id == "mine"


def test_the_rpc_deadline_exceeds_the_generation_timeout() -> None:
    """The server's own answer to a timeout always comes before the client's."""
    seconds = [
        rpc_seconds(billable_request(StreamTextRequest, "x", {})),
        rpc_seconds(billable_request(GenerateTextRequest, "x", {})),
        rpc_seconds(billable_request(GenerateImageRequest, "x", {})),
        rpc_seconds(billable_request(GenerateAudioRequest, "x", {"timeout": 10})),
        rpc_seconds(billable_request(GenerateVideoRequest, "x", {})),
        rpc_seconds(billable_request(GenerateVideoRequest, "x", {"wait": 100})),
    ]
    assert seconds == [660, 660, 360, 70, 60, 160]


def test_turns_of_a_conversation() -> None:
    """The four who speak, with a picture to look at."""
    turns = [
        system("Be brief."),
        user("What is it?", images=["https://example.com/a.png"]),
        assistant("A cat."),
        tool_result("call-1", "42"),
    ]
    assert [turn.role for turn in turns] == [
        ChatMessage.ROLE_SYSTEM,
        ChatMessage.ROLE_USER,
        ChatMessage.ROLE_ASSISTANT,
        ChatMessage.ROLE_TOOL,
    ]
    assert turns[1].parts[0].image.uri == "https://example.com/a.png"
    assert turns[3].tool_call_id == "call-1"


@given(st.floats(0, 1e6))
def test_seconds_survive_to_the_microsecond(seconds: float) -> None:
    """A number of seconds, a timedelta and a Duration mean the same."""
    span = timedelta(seconds=seconds)
    proto = Duration()
    proto.FromTimedelta(span)
    assert {seconds_of(value, "wait") for value in (seconds, span, proto)} == {span.total_seconds()}


SURROGATE = "a\ud800b"
BAD_ARGUMENTS: dict[str, tuple[Callable[[Client], object], str]] = {
    "a prompt": (lambda client: client.generate_text(SURROGATE), "prompt"),
    "a streamed prompt": (lambda client: client.stream_text(SURROGATE), "prompt"),
    "content": (lambda client: client.check_safety(SURROGATE), "content"),
    "a slug": (lambda client: client.run_model(SURROGATE), "model"),
    "a prompt that is none": (lambda client: client.generate_image(7), "prompt"),  # type: ignore[arg-type]
    "a model": (lambda client: client.generate_text("x", model=SURROGATE), "model"),
    "a label": (lambda client: client.generate_text("x", labels={SURROGATE: "x"}), "labels"),
    "an input": (lambda client: client.run_model("a/b", input={"x": SURROGATE}), "input"),
    "a request_id": (lambda client: client.generate_text("x", request_id=SURROGATE), "request_id"),
    "a path": (lambda client: client.upload(SURROGATE), "source"),
    "a path with a NUL": (lambda client: client.upload("a\0b"), "source"),
    "a media type": (lambda client: client.upload(b"x", media_type=SURROGATE), "media_type"),
    "an image": (
        lambda client: client.generate_image("x", reference_images=[SURROGATE]),
        "reference_images",
    ),
    "an id to get": (lambda client: client.get(SURROGATE), "id"),
    "a number to get": (lambda client: client.get(7), "id"),  # type: ignore[arg-type]
    "an id to cancel": (lambda client: client.cancel(SURROGATE), "id"),
    "an id to delete": (lambda client: client.delete(SURROGATE), "id"),
    "an id to wait for": (lambda client: client.wait(SURROGATE), "id"),
    "an id to watch": (lambda client: list(client.watch(SURROGATE)), "id"),
    "an id to read": (lambda client: list(client.read_media(SURROGATE)), "media"),
    "a link to read": (lambda client: list(client.read_media("https://a/b.png")), "media"),
    "bytes to read": (lambda client: list(client.read_media(b"x")), "media"),  # type: ignore[arg-type]
    "an offset": (lambda client: list(client.read_media("upl_1", offset=2**80)), "offset"),
    "a model's name": (lambda client: client.model(SURROGATE), "model"),
    "a filter": (lambda client: list(client.list(models=[SURROGATE])), "models"),
    "a page size": (lambda client: list(client.list(page_size=2**40)), "page_size"),
    "a label's key": (lambda client: client.get_usage(label_key=SURROGATE), "label_key"),
    "a tenant": (lambda client: client.rotate_webhook_secret(SURROGATE), "tenant"),
    "a webhook": (lambda client: client.redeliver_webhook(SURROGATE), "id"),
    "a time to wait": (lambda client: client.wait("gen_1", wait=float("nan")), "wait"),
    "an endless time": (lambda client: client.wait("gen_1", wait=1e300), "wait"),
    "a timeout": (
        lambda client: client.generate_text("x", rpc_timeout=float("nan")),
        "rpc_timeout",
    ),
    "a timeout that is none": (
        lambda client: client.generate_text("x", rpc_timeout="9"),  # type: ignore[arg-type]
        "rpc_timeout",
    ),
    "bytes for a prompt": (lambda client: client.generate_text(b"x"), "prompt"),  # type: ignore[arg-type]
    "a keyword": (lambda client: client.generate_text("x", nonsense=1), "nonsense"),  # type: ignore[call-arg]
    "a message": (lambda client: client.generate_text(messages=[user(SURROGATE)]), "text"),
    "a frame": (lambda client: client.generate_video("x", first_frame=SURROGATE), "first_frame"),
    "a frame's link": (
        lambda client: client.generate_video("x", first_frame=f"http://{SURROGATE}"),
        "first_frame",
    ),
    "a frame's path": (
        lambda client: client.generate_video("x", first_frame="a\0b"),
        "first_frame",
    ),
    "a plan": (lambda client: client.plan("x"), "request"),  # type: ignore[arg-type]
    "a path to save to": (lambda client: client.download("https://a/b", SURROGATE), "path"),
    "a link to save": (lambda client: client.download("http://[", "x"), "media"),
    "a nested input": (lambda client: client.run_model("a/b", input=nested(5_000)), "input"),
}


def nested(depth: int) -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(depth):
        value = {"x": value}
    return value


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_values_outside_a_message_are_refused(name: str) -> None:
    """They are refused with their field before anything is sent: nothing listens there."""
    call, field = BAD_ARGUMENTS[name]
    with Client("127.0.0.1:1") as client, pytest.raises(InvalidRequest) as refused:
        call(client)
    assert [violation.field for violation in refused.value.violations] == [field]
    str(refused.value).encode()
