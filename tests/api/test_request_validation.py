"""Requests that can never work are refused, every wrong field named by its path."""

import math
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from mediagate.v1 import (
    generations_pb2,
    image_pb2,
    medium_pb2,
    models_pb2,
    safety_pb2,
    text_pb2,
    usage_pb2,
)
from mediagate.v1.generations_pb2 import GenerationFilter
from mediagate.v1.options_pb2 import GenerationOptions
from mediagate.v1.text_pb2 import ChatMessage
from mediagate_server.api.interceptors.request_validation import ValidationInterceptor
from mediagate_server.api.validation import validator
from mediagate_server.errors import (
    DeadlineTooShort,
    InvalidRequest,
    MediaTooLarge,
    NotImplementedYet,
    Reason,
)

from .random_requests import audio, image, picture, stream, text, turn, video

UUID = "8a6e0804-2bd0-4672-b79d-d97027f9071a"
MIB = 1024 * 1024


def wrong(request: Message, **options: Any) -> dict[str, str]:
    """Field and description of all that is wrong; empty where nothing is."""
    try:
        ValidationInterceptor(**options).check(request)
    except InvalidRequest as error:
        return {violation.field: violation.description for violation in error.failure.violations}
    return {}


def options(**fields: Any) -> GenerationOptions:
    """Options of a request."""
    return GenerationOptions(**fields)


def seconds(value: float) -> Duration:
    """A Duration."""
    duration = Duration()
    duration.FromNanoseconds(round(value * 1e9))
    return duration


def inline(data: bytes, media_type: str = "image/png") -> medium_pb2.MediaInput:
    """A medium within the request."""
    return medium_pb2.MediaInput(inline=medium_pb2.InlineMedia(data=data, media_type=media_type))


LABELS = {"a.b_c-0": "x" * 128, "x" * 63: ""}
BAD_LABELS: list[tuple[dict[str, str], str, str]] = [
    ({"Team": "x"}, '["Team"]', "a-z0-9"),
    ({"": "x"}, '[""]', "1 to 63"),
    ({"x" * 64: ""}, f'["{"x" * 64}"]', "1 to 63"),
    ({"team": "x" * 129}, '["team"]', "128"),
    ({"a\0": ""}, '["a\\u0000"]', "a-z0-9"),
    ({f"k{n}": "" for n in range(17)}, "", "16"),
]

GOOD: list[Message] = [
    text(),
    text(request_id=UUID),
    text(request_id=UUID.replace("-", "").upper()),
    text(prompt="x" * 1_000_000),
    text(messages=[turn(), turn(ChatMessage.ROLE_ASSISTANT), turn()]),
    text(messages=[turn(image=picture())]),
    text(temperature=0.0, top_p=1.0, top_k=0, seed=0, max_output_tokens=1),
    text(stop_sequences=["x" * 256] * 16),
    text(wait=seconds(0)),
    text(wait=seconds(86_400)),
    text(options=options(timeout=seconds(5), disconnect_grace=seconds(300))),
    text(options=options(allow_substitutes=False, max_cost_usd_nanos=0, screen_prompt=False)),
    text(options=options(labels=LABELS)),
    text(response_format=text_pb2.ResponseFormat(kind=text_pb2.ResponseFormat.KIND_TEXT)),
    stream(request_id=UUID, after_sequence=2**62),
    image(size=medium_pb2.Size(width=16, height=8_192)),
    image(aspect_ratio="100:1", count=16, steps=1_000, strength=1.0, guidance_scale=0.0),
    image(megapixels=64.0),
    image(reference_images=[picture()] * 16, mask=inline(b"x" * 3 * MIB)),
    image(loras=[image_pb2.Lora(uri="owner/name", scale=-10.0), image_pb2.Lora(uri="https://a/b")]),
    video(resolution="720p", fps=120, duration=seconds(600)),
    video(resolution="4k"),
    video(prompt="", first_frame=picture()),
    video(prompt="", source_video=picture()),
    video(prompt="", reference_images=[picture()]),
    audio(),
    audio(prompt="", text="hello", speed=0.25),
    audio(prompt="", lyrics="la"),
    models_pb2.ListModelsRequest(),
    models_pb2.ListModelsRequest(page_size=5_000),
    generations_pb2.ListGenerationsRequest(filter=GenerationFilter(labels=LABELS)),
    generations_pb2.WatchGenerationRequest(id="g"),
]


@pytest.mark.parametrize("request_", GOOD, ids=range(len(GOOD)))
def test_good_requests_pass(request_: Message) -> None:
    """Both ends of every range are within it."""
    ValidationInterceptor().check(request_)


# Numbers that no enum has cannot be written down where types are checked.
UNKNOWN_MODALITY: Any = {"modality": 99}
UNKNOWN_STATE: Any = {"states": [1, 42]}

BAD: list[tuple[Message, str, str]] = [
    (text(prompt=""), "prompt", "must be set"),
    (text(prompt=" \n\t"), "prompt", "blank"),
    (text(prompt="x" * 1_000_001), "prompt", "1,000,000"),
    (text(prompt="a\0b"), "prompt", "NUL"),
    (text(prompt="x", messages=[turn()]), "prompt", "together with messages"),
    (text(messages=[turn()] * 1_001), "messages", "1,000"),
    (text(messages=[turn(), turn(ChatMessage.ROLE_ASSISTANT)]), "messages[1].role", "last turn"),
    (text(messages=[ChatMessage(parts=turn().parts)]), "messages[0].role", "must be set"),
    (text(messages=[ChatMessage(role=ChatMessage.ROLE_USER)]), "messages[0].parts", "must be set"),
    (text(messages=[turn(text="")]), "messages[0].parts[0].text", "empty"),
    (
        text(messages=[ChatMessage(role=ChatMessage.ROLE_USER, parts=[text_pb2.ChatPart()])]),
        "messages[0].parts[0]",
        "must have a part",
    ),
    (text(messages=[turn(image=medium_pb2.MediaInput())]), "messages[0].parts[0].image", "source"),
    (text(messages=[turn(77)]), "messages[0].role", "known, not 77"),
    (text(request_id="not-a-uuid"), "request_id", "UUID"),
    (text(request_id=UUID[:-1]), "request_id", "UUID"),
    (text(request_id=UUID + "\n"), "request_id", "UUID"),
    (text(request_id="{" + UUID + "}"), "request_id", "UUID"),
    (text(wait=seconds(-1)), "wait", "0 to 86,400 seconds"),
    (text(wait=seconds(86_401)), "wait", "86,400"),
    (text(wait=Duration(seconds=1, nanos=-1)), "wait", "duration"),
    (text(temperature=2.01), "temperature", "from 0 to 2"),
    (text(temperature=math.nan), "temperature", "finite"),
    (text(top_p=-0.1), "top_p", "from 0 to 1"),
    (text(top_p=math.inf), "top_p", "finite"),
    (text(top_k=-1), "top_k", "at least 0"),
    (text(max_output_tokens=0), "max_output_tokens", "at least 1"),
    (text(seed=-1), "seed", "at least 0"),
    (text(stop_sequences=["x"] * 17), "stop_sequences", "16"),
    (text(stop_sequences=["x", ""]), "stop_sequences[1]", "empty"),
    (text(stop_sequences=["x" * 257]), "stop_sequences[0]", "256"),
    (text(reasoning_effort=99), "reasoning_effort", "ReasoningEffort"),
    (text(options=options(timeout=seconds(0))), "options.timeout", "over 0"),
    (text(options=options(timeout=seconds(-5))), "options.timeout", "over 0"),
    (text(options=options(timeout=seconds(86_401))), "options.timeout", "86,400"),
    (text(options=options(disconnect_grace=seconds(301))), "options.disconnect_grace", "300"),
    (text(options=options(max_cost_usd_nanos=-1)), "options.max_cost_usd_nanos", "at least 0"),
    (text(options=options(parameter_mode=7)), "options.parameter_mode", "ParameterMode"),
    (stream(after_sequence=5), "request_id", "after_sequence"),
    (stream(request_id=UUID, after_sequence=-1), "after_sequence", "at least 0"),
    (image(prompt=""), "prompt", "must be set"),
    (image(prompt="\u2003"), "prompt", "blank"),
    (image(prompt="x" * 100_001), "prompt", "100,000"),
    (image(negative_prompt="x" * 100_001), "negative_prompt", "100,000"),
    (image(size=medium_pb2.Size(width=15, height=16)), "size.width", "from 16 to 8,192"),
    (image(size=medium_pb2.Size(width=16)), "size.height", "from 16"),
    (image(size=medium_pb2.Size(width=16, height=8_193)), "size.height", "8,192"),
    (image(aspect_ratio=""), "aspect_ratio", "16:9"),
    (image(aspect_ratio="0:1"), "aspect_ratio", "16:9"),
    (image(aspect_ratio="101:1"), "aspect_ratio", "16:9"),
    (image(aspect_ratio="16:9 "), "aspect_ratio", "16:9"),
    (image(aspect_ratio="\uff11\uff16:9"), "aspect_ratio", "16:9"),
    (image(megapixels=0.0), "megapixels", "over 0 to 64"),
    (image(megapixels=64.1), "megapixels", "64"),
    (image(count=0), "count", "from 1 to 16"),
    (image(count=17), "count", "from 1 to 16"),
    (image(guidance_scale=101.0), "guidance_scale", "100"),
    (image(steps=0), "steps", "1,000"),
    (image(strength=1.5), "strength", "from 0 to 1"),
    (image(reference_images=[picture()] * 17), "reference_images", "16"),
    (image(reference_images=[picture(), picture("ftp://a/b")]), "reference_images[1].uri", "https"),
    (image(mask=medium_pb2.MediaInput()), "mask", "must have a source"),
    (image(mask=inline(b"")), "mask.inline.data", "empty"),
    (image(mask=inline(b"x", "png,x")), "mask.inline.media_type", "IANA"),
    (image(loras=[image_pb2.Lora(uri="a")] * 9), "loras", "8"),
    (image(loras=[image_pb2.Lora()]), "loras[0].uri", "must be set"),
    (image(loras=[image_pb2.Lora(uri="http://a/b")]), "loras[0].uri", "https"),
    (image(loras=[image_pb2.Lora(uri="a", scale=10.5)]), "loras[0].scale", "from -10 to 10"),
    (image(output_format=9), "output_format", "ImageFormat"),
    (video(prompt=""), "prompt", "must be set"),
    (video(prompt="", last_frame=picture()), "prompt", "must be set"),
    (video(prompt=" ", first_frame=picture()), "prompt", "blank"),
    (video(duration=seconds(-1)), "duration", "over 0 to 600 seconds"),
    (video(duration=seconds(0)), "duration", "over 0"),
    (video(duration=seconds(600.5)), "duration", "600"),
    (video(fps=121), "fps", "from 1 to 120"),
    (video(resolution="hd"), "resolution", "720p"),
    (video(resolution="72p"), "resolution", "720p"),
    (video(motion_strength=2.0), "motion_strength", "from 0 to 1"),
    (video(first_frame=picture("http://127.0.0.1/x")), "first_frame.uri", "https"),
    (audio(prompt=""), "prompt", "or text, or lyrics"),
    (audio(prompt="", lyrics="  "), "prompt", "or text, or lyrics"),
    (audio(text="x"), "prompt", "together with text"),
    (audio(prompt="", text=" "), "text", "blank"),
    (audio(lyrics="x" * 100_001), "lyrics", "100,000"),
    (audio(voice="x" * 257), "voice", "256"),
    (audio(language="x" * 65), "language", "64"),
    (audio(speed=0.2), "speed", "from 0.25 to 4"),
    (audio(kind=4), "kind", "AudioKind"),
    (safety_pb2.CheckSafetyRequest(), "content", "or messages"),
    (safety_pb2.CheckSafetyRequest(content="x", messages=[turn()]), "content", "together"),
    (
        safety_pb2.CheckSafetyRequest(content="x", role=ChatMessage.ROLE_SYSTEM),
        "role",
        "ROLE_USER or ROLE_ASSISTANT",
    ),
    (models_pb2.ListModelsRequest(page_size=-1), "page_size", "at least 0"),
    (models_pb2.ListModelsRequest(**UNKNOWN_MODALITY), "modality", "Modality"),
    (models_pb2.GetModelRequest(), "model", "must be set"),
    (models_pb2.EstimateCostRequest(), "request", "must have a request"),
    (models_pb2.EstimateCostRequest(image=image(count=99)), "image.count", "from 1 to 16"),
    (generations_pb2.GetGenerationRequest(), "id", "must be set"),
    (generations_pb2.WaitGenerationRequest(id="g", wait=seconds(-1)), "wait", "from 0"),
    (
        generations_pb2.ListGenerationsRequest(filter=GenerationFilter(**UNKNOWN_STATE)),
        "filter.states[1]",
        "State",
    ),
    (
        generations_pb2.ListGenerationsRequest(
            filter=GenerationFilter(created_after=Timestamp(nanos=-1))
        ),
        "filter.created_after",
        "year",
    ),
    (generations_pb2.WatchGenerationRequest(id="g", after_sequence=-1), "after_sequence", "0"),
]


@pytest.mark.parametrize(("labels", "path", "words"), BAD_LABELS, ids=range(len(BAD_LABELS)))
def test_labels_are_asked_for_as_they_are_given(
    labels: dict[str, str], path: str, words: str
) -> None:
    """What no generation can have is refused by every filter too, by the same rule."""
    generations = GenerationFilter(labels=labels)
    for request, field in (
        (text(options=options(labels=labels)), "options"),
        (generations_pb2.ListGenerationsRequest(filter=generations), "filter"),
        (generations_pb2.WatchGenerationsRequest(filter=generations), "filter"),
        (usage_pb2.ListChargesRequest(filter=usage_pb2.UsageFilter(labels=labels)), "filter"),
    ):
        found = wrong(request)
        assert list(found) == [f"{field}.labels{path}"]
        assert words in found[f"{field}.labels{path}"]


@pytest.mark.parametrize(
    ("request_", "path", "words"), BAD, ids=[f"{n}-{b[1]}" for n, b in enumerate(BAD)]
)
def test_bad_requests_name_the_field(request_: Message, path: str, words: str) -> None:
    """Exactly the field at fault is named, with what it must be."""
    found = wrong(request_)
    assert list(found) == [path]
    assert words in found[path]


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Nobody has to mend a request one refusal at a time."""
    found = wrong(text(prompt="", temperature=9, request_id="x", options=options(parameter_mode=9)))
    assert list(found) == ["request_id", "options.parameter_mode", "temperature", "prompt"]


@pytest.mark.parametrize(
    "uri",
    [
        "http://example.com/a.png",
        "data:image/png;base64,AAAA",
        "file:///etc/passwd",
        "//example.com/a",
        "example.com/a",
        "https://",
        "https:///a",
        "https://user@example.com/a",
        "https://user:word@example.com/a",
        "https://@example.com/a",
        "https://example.com:0/a",
        "https://example.com:99999/a",
        "https://[::1/a",
        "https://exa mple.com/a",
        "https://example.com/a\nb",
        "https:\\\\example.com\\a",
        "",
        "https://example.com/" + "x" * 2_030,
    ],
)
def test_addresses_of_inputs(uri: str) -> None:
    """Https, a host, no user info, not too long; what was sent is not repeated."""
    found = wrong(image(mask=picture(uri)))
    assert list(found) == ["mask.uri"]
    assert "example" not in found["mask.uri"]


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost:8787", "10.0.0.1", "2130706433", "0x7f.1", "[::1]", "[fd00::1]"),
        *("127。0。0。1", "①②⑦.⓪.⓪.①", "ⓛocalhost", "%31%32%37.0.0.1"),
    ],
)
def test_no_input_is_in_a_private_network(host: str) -> None:
    """Not by its address, in whatever form: nobody but this machine's neighbours could mean it."""
    found = wrong(image(mask=picture(f"https://{host}/a.png")))
    assert found == {"mask.uri": "must not lead into a private network"}


@pytest.mark.parametrize("host", ["127.0.0.1:8787", "127.1.2.3", "localhost:80", "[::1]:9"])
def test_loopback_is_for_the_sandbox(host: str) -> None:
    """Plain http to this machine passes only where the gate was told that it may."""
    request = image(mask=picture(f"http://{host}/a.png"))
    assert list(wrong(request)) == ["mask.uri"]
    assert not wrong(request, allow_http_loopback=True)
    far = image(mask=picture("http://127.0.0.1.example.com/a.png"))
    assert wrong(far, allow_http_loopback=True)


def test_a_medium_that_is_too_large() -> None:
    """It has a reason of its own, unless something else is wrong as well."""
    large = inline(b"x" * (3 * MIB + 1))
    with pytest.raises(MediaTooLarge) as alone:
        ValidationInterceptor().check(image(mask=large))
    assert alone.value.failure.reason is Reason.MEDIA_TOO_LARGE
    assert [v.field for v in alone.value.failure.violations] == ["mask.inline.data"]
    with pytest.raises(InvalidRequest) as both:
        ValidationInterceptor().check(image(mask=large, count=99))
    assert both.value.failure.reason is Reason.INVALID_REQUEST
    assert [v.field for v in both.value.failure.violations] == ["count", "mask.inline.data"]


def test_a_timeout_that_no_run_can_be_held_to() -> None:
    """Over 0 and under 5 s is no mistake in form: it has a reason of its own."""
    with pytest.raises(DeadlineTooShort) as raised:
        ValidationInterceptor().check(text(options=options(timeout=seconds(4.5))))
    assert raised.value.failure.metadata["timeout_seconds"] == "4.500000000"


def test_fields_that_are_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set, they are refused by name; never ignored. There are none now."""
    monkeypatch.setattr(
        validator, "UNIMPLEMENTED_FIELDS", {"mediagate.v1.GenerationOptions": ("reuse_within",)}
    )
    with pytest.raises(NotImplementedYet) as raised:
        ValidationInterceptor().check(text(options=options(reuse_within=seconds(1))))
    assert raised.value.failure.metadata["field"] == "options.reuse_within"
