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
from tests.builders import (
    audio_request,
    chat_message,
    image_request,
    inline_media_input,
    media_input,
    stream_text_request,
    text_request,
    video_request,
)

UUID = "8a6e0804-2bd0-4672-b79d-d97027f9071a"
MIB = 1024 * 1024


def wrong(request: Message, **options: Any) -> dict[str, str]:
    """Field and description of all that is wrong; empty where nothing is."""
    try:
        ValidationInterceptor(**options).check(request)
    except InvalidRequest as error:
        return {violation.field: violation.description for violation in error.failure.violations}
    return {}


def seconds(value: float) -> Duration:
    """A Duration."""
    duration = Duration()
    duration.FromNanoseconds(round(value * 1e9))
    return duration


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
    text_request(),
    text_request(request_id=UUID),
    text_request(request_id=UUID.replace("-", "").upper()),
    text_request(prompt="x" * 1_000_000),
    text_request(
        messages=[chat_message(), chat_message(ChatMessage.ROLE_ASSISTANT), chat_message()]
    ),
    text_request(messages=[chat_message(image=media_input())]),
    text_request(temperature=0.0, top_p=1.0, top_k=0, seed=0, max_output_tokens=1),
    text_request(stop_sequences=["x" * 256] * 16),
    text_request(wait=seconds(0)),
    text_request(wait=seconds(86_400)),
    text_request(timeout=seconds(5), disconnect_grace=seconds(300)),
    text_request(allow_substitutes=False, max_cost_usd_nanos=0, screen_prompt=False),
    text_request(labels=LABELS),
    text_request(response_format=text_pb2.ResponseFormat(kind=text_pb2.ResponseFormat.KIND_TEXT)),
    stream_text_request(request_id=UUID, after_sequence=2**62),
    image_request(size=medium_pb2.Size(width=16, height=8_192)),
    image_request(aspect_ratio="100:1", count=16, steps=1_000, strength=1.0, guidance_scale=0.0),
    image_request(megapixels=64.0),
    image_request(reference_images=[media_input()] * 16, mask=inline_media_input(b"x" * 3 * MIB)),
    image_request(
        loras=[image_pb2.Lora(uri="owner/name", scale=-10.0), image_pb2.Lora(uri="https://a/b")]
    ),
    video_request(resolution="720p", fps=120, duration=seconds(600)),
    video_request(resolution="4k"),
    video_request(prompt="", first_frame=media_input()),
    video_request(prompt="", source_video=media_input()),
    video_request(prompt="", reference_images=[media_input()]),
    audio_request(),
    audio_request(prompt="", text="hello", speed=0.25),
    audio_request(prompt="", lyrics="la"),
    models_pb2.ListModelsRequest(),
    models_pb2.ListModelsRequest(page_size=5_000),
    generations_pb2.ListGenerationsRequest(filter=GenerationFilter(labels=LABELS)),
    generations_pb2.WatchGenerationRequest(id="g"),
]


@pytest.mark.parametrize("request_", GOOD, ids=range(len(GOOD)))
def test_valid_requests_pass(request_: Message) -> None:
    """Both ends of every range are within it."""
    ValidationInterceptor().check(request_)


# Numbers that no enum has cannot be written down where types are checked.
UNKNOWN_MODALITY: Any = {"modality": 99}
UNKNOWN_STATE: Any = {"states": [1, 42]}

BAD: list[tuple[Message, str, str]] = [
    (text_request(prompt=""), "prompt", "must be set"),
    (text_request(prompt=" \n\t"), "prompt", "blank"),
    (text_request(prompt="x" * 1_000_001), "prompt", "1,000,000"),
    (text_request(prompt="a\0b"), "prompt", "NUL"),
    (text_request(prompt="x", messages=[chat_message()]), "prompt", "together with messages"),
    (text_request(messages=[chat_message()] * 1_001), "messages", "1,000"),
    (
        text_request(messages=[chat_message(), chat_message(ChatMessage.ROLE_ASSISTANT)]),
        "messages[1].role",
        "last turn",
    ),
    (
        text_request(messages=[ChatMessage(parts=chat_message().parts)]),
        "messages[0].role",
        "must be set",
    ),
    (
        text_request(messages=[ChatMessage(role=ChatMessage.ROLE_USER)]),
        "messages[0].parts",
        "must be set",
    ),
    (text_request(messages=[chat_message(text="")]), "messages[0].parts[0].text", "empty"),
    (
        text_request(
            messages=[ChatMessage(role=ChatMessage.ROLE_USER, parts=[text_pb2.ChatPart()])]
        ),
        "messages[0].parts[0]",
        "must have a part",
    ),
    (
        text_request(messages=[chat_message(image=medium_pb2.MediaInput())]),
        "messages[0].parts[0].image",
        "source",
    ),
    (text_request(messages=[chat_message(77)]), "messages[0].role", "known, not 77"),
    (text_request(request_id="not-a-uuid"), "request_id", "UUID"),
    (text_request(request_id=UUID[:-1]), "request_id", "UUID"),
    (text_request(request_id=UUID + "\n"), "request_id", "UUID"),
    (text_request(request_id="{" + UUID + "}"), "request_id", "UUID"),
    (text_request(wait=seconds(-1)), "wait", "0 to 86,400 seconds"),
    (text_request(wait=seconds(86_401)), "wait", "86,400"),
    (text_request(wait=Duration(seconds=1, nanos=-1)), "wait", "duration"),
    (text_request(temperature=2.01), "temperature", "from 0 to 2"),
    (text_request(temperature=math.nan), "temperature", "finite"),
    (text_request(top_p=-0.1), "top_p", "from 0 to 1"),
    (text_request(top_p=math.inf), "top_p", "finite"),
    (text_request(top_k=-1), "top_k", "at least 0"),
    (text_request(max_output_tokens=0), "max_output_tokens", "at least 1"),
    (text_request(seed=-1), "seed", "at least 0"),
    (text_request(stop_sequences=["x"] * 17), "stop_sequences", "16"),
    (text_request(stop_sequences=["x", ""]), "stop_sequences[1]", "empty"),
    (text_request(stop_sequences=["x" * 257]), "stop_sequences[0]", "256"),
    (text_request(reasoning_effort=99), "reasoning_effort", "ReasoningEffort"),
    (text_request(timeout=seconds(0)), "options.timeout", "over 0"),
    (text_request(timeout=seconds(-5)), "options.timeout", "over 0"),
    (text_request(timeout=seconds(86_401)), "options.timeout", "86,400"),
    (text_request(disconnect_grace=seconds(301)), "options.disconnect_grace", "300"),
    (text_request(max_cost_usd_nanos=-1), "options.max_cost_usd_nanos", "at least 0"),
    (text_request(parameter_mode=7), "options.parameter_mode", "ParameterMode"),
    (stream_text_request(after_sequence=5), "request_id", "after_sequence"),
    (stream_text_request(request_id=UUID, after_sequence=-1), "after_sequence", "at least 0"),
    (image_request(prompt=""), "prompt", "must be set"),
    (image_request(prompt="\u2003"), "prompt", "blank"),
    (image_request(prompt="x" * 100_001), "prompt", "100,000"),
    (image_request(negative_prompt="x" * 100_001), "negative_prompt", "100,000"),
    (image_request(size=medium_pb2.Size(width=15, height=16)), "size.width", "from 16 to 8,192"),
    (image_request(size=medium_pb2.Size(width=16)), "size.height", "from 16"),
    (image_request(size=medium_pb2.Size(width=16, height=8_193)), "size.height", "8,192"),
    (image_request(aspect_ratio=""), "aspect_ratio", "16:9"),
    (image_request(aspect_ratio="0:1"), "aspect_ratio", "16:9"),
    (image_request(aspect_ratio="101:1"), "aspect_ratio", "16:9"),
    (image_request(aspect_ratio="16:9 "), "aspect_ratio", "16:9"),
    (image_request(aspect_ratio="\uff11\uff16:9"), "aspect_ratio", "16:9"),
    (image_request(megapixels=0.0), "megapixels", "over 0 to 64"),
    (image_request(megapixels=64.1), "megapixels", "64"),
    (image_request(count=0), "count", "from 1 to 16"),
    (image_request(count=17), "count", "from 1 to 16"),
    (image_request(guidance_scale=101.0), "guidance_scale", "100"),
    (image_request(steps=0), "steps", "1,000"),
    (image_request(strength=1.5), "strength", "from 0 to 1"),
    (image_request(reference_images=[media_input()] * 17), "reference_images", "16"),
    (
        image_request(reference_images=[media_input(), media_input("ftp://a/b")]),
        "reference_images[1].uri",
        "https",
    ),
    (image_request(mask=medium_pb2.MediaInput()), "mask", "must have a source"),
    (image_request(mask=inline_media_input(b"")), "mask.inline.data", "empty"),
    (image_request(mask=inline_media_input(b"x", "png,x")), "mask.inline.media_type", "IANA"),
    (image_request(loras=[image_pb2.Lora(uri="a")] * 9), "loras", "8"),
    (image_request(loras=[image_pb2.Lora()]), "loras[0].uri", "must be set"),
    (image_request(loras=[image_pb2.Lora(uri="http://a/b")]), "loras[0].uri", "https"),
    (
        image_request(loras=[image_pb2.Lora(uri="a", scale=10.5)]),
        "loras[0].scale",
        "from -10 to 10",
    ),
    (image_request(output_format=9), "output_format", "ImageFormat"),
    (video_request(prompt=""), "prompt", "must be set"),
    (video_request(prompt="", last_frame=media_input()), "prompt", "must be set"),
    (video_request(prompt=" ", first_frame=media_input()), "prompt", "blank"),
    (video_request(duration=seconds(-1)), "duration", "over 0 to 600 seconds"),
    (video_request(duration=seconds(0)), "duration", "over 0"),
    (video_request(duration=seconds(600.5)), "duration", "600"),
    (video_request(fps=121), "fps", "from 1 to 120"),
    (video_request(resolution="hd"), "resolution", "720p"),
    (video_request(resolution="72p"), "resolution", "720p"),
    (video_request(motion_strength=2.0), "motion_strength", "from 0 to 1"),
    (video_request(first_frame=media_input("http://127.0.0.1/x")), "first_frame.uri", "https"),
    (audio_request(prompt=""), "prompt", "or text, or lyrics"),
    (audio_request(prompt="", lyrics="  "), "prompt", "or text, or lyrics"),
    (audio_request(text="x"), "prompt", "together with text"),
    (audio_request(prompt="", text=" "), "text", "blank"),
    (audio_request(lyrics="x" * 100_001), "lyrics", "100,000"),
    (audio_request(voice="x" * 257), "voice", "256"),
    (audio_request(language="x" * 65), "language", "64"),
    (audio_request(speed=0.2), "speed", "from 0.25 to 4"),
    (audio_request(kind=4), "kind", "AudioKind"),
    (safety_pb2.CheckSafetyRequest(), "content", "or messages"),
    (safety_pb2.CheckSafetyRequest(content="x", messages=[chat_message()]), "content", "together"),
    (
        safety_pb2.CheckSafetyRequest(content="x", role=ChatMessage.ROLE_SYSTEM),
        "role",
        "ROLE_USER or ROLE_ASSISTANT",
    ),
    (models_pb2.ListModelsRequest(page_size=-1), "page_size", "at least 0"),
    (models_pb2.ListModelsRequest(**UNKNOWN_MODALITY), "modality", "Modality"),
    (models_pb2.GetModelRequest(), "model", "must be set"),
    (models_pb2.EstimateCostRequest(), "request", "must have a request"),
    (models_pb2.EstimateCostRequest(image=image_request(count=99)), "image.count", "from 1 to 16"),
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
def test_label_filters_have_the_rules_of_labels(
    labels: dict[str, str], path: str, words: str
) -> None:
    """What no generation can have is refused by every filter too, by the same rule."""
    generations = GenerationFilter(labels=labels)
    for request, field in (
        (text_request(labels=labels), "options"),
        (generations_pb2.ListGenerationsRequest(filter=generations), "filter"),
        (generations_pb2.WatchGenerationsRequest(filter=generations), "filter"),
        (usage_pb2.ListChargesRequest(filter=usage_pb2.UsageFilter(labels=labels)), "filter"),
    ):
        violations = wrong(request)
        assert list(violations) == [f"{field}.labels{path}"]
        assert words in violations[f"{field}.labels{path}"]


@pytest.mark.parametrize(
    ("request_", "path", "words"), BAD, ids=[f"{n}-{b[1]}" for n, b in enumerate(BAD)]
)
def test_invalid_requests_name_the_field(request_: Message, path: str, words: str) -> None:
    """Exactly the field at fault is named, with what it must be."""
    violations = wrong(request_)
    assert list(violations) == [path]
    assert words in violations[path]


def test_all_violations_are_reported_at_once() -> None:
    """Nobody has to mend a request one refusal at a time."""
    violations = wrong(text_request(prompt="", temperature=9, request_id="x", parameter_mode=9))
    assert list(violations) == ["request_id", "options.parameter_mode", "temperature", "prompt"]


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
def test_input_urls(uri: str) -> None:
    """Https, a host, no user info, not too long; what was sent is not repeated."""
    violations = wrong(image_request(mask=media_input(uri)))
    assert list(violations) == ["mask.uri"]
    assert "example" not in violations["mask.uri"]


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost:8787", "10.0.0.1", "2130706433", "0x7f.1", "[::1]", "[fd00::1]"),
        *("127。0。0。1", "①②⑦.⓪.⓪.①", "ⓛocalhost", "%31%32%37.0.0.1"),
    ],
)
def test_input_urls_of_private_networks_are_refused(host: str) -> None:
    """Not by its address, in whatever form: nobody but this machine's neighbours could mean it."""
    violations = wrong(image_request(mask=media_input(f"https://{host}/a.png")))
    assert violations == {"mask.uri": "must not lead into a private network"}


@pytest.mark.parametrize("host", ["127.0.0.1:8787", "127.1.2.3", "localhost:80", "[::1]:9"])
def test_loopback_urls_are_for_the_sandbox_only(host: str) -> None:
    """Plain http to this machine passes only where the server was told that it may."""
    request = image_request(mask=media_input(f"http://{host}/a.png"))
    assert list(wrong(request)) == ["mask.uri"]
    assert not wrong(request, allow_http_loopback=True)
    far = image_request(mask=media_input("http://127.0.0.1.example.com/a.png"))
    assert wrong(far, allow_http_loopback=True)


def test_an_oversized_medium() -> None:
    """It has a reason of its own, unless something else is wrong as well."""
    large = inline_media_input(b"x" * (3 * MIB + 1))
    with pytest.raises(MediaTooLarge) as alone:
        ValidationInterceptor().check(image_request(mask=large))
    assert alone.value.failure.reason is Reason.MEDIA_TOO_LARGE
    assert [v.field for v in alone.value.failure.violations] == ["mask.inline.data"]
    with pytest.raises(InvalidRequest) as both:
        ValidationInterceptor().check(image_request(mask=large, count=99))
    assert both.value.failure.reason is Reason.INVALID_REQUEST
    assert [v.field for v in both.value.failure.violations] == ["count", "mask.inline.data"]


def test_a_timeout_below_the_minimum() -> None:
    """Over 0 and under 5 s is no mistake in form: it has a reason of its own."""
    with pytest.raises(DeadlineTooShort) as raised:
        ValidationInterceptor().check(text_request(timeout=seconds(4.5)))
    assert raised.value.failure.metadata["timeout_seconds"] == "4.500000000"


def test_unimplemented_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set, they are refused by name; never ignored. There are none now."""
    monkeypatch.setattr(
        validator, "UNIMPLEMENTED_FIELDS", {"mediagate.v1.GenerationOptions": ("reuse_within",)}
    )
    with pytest.raises(NotImplementedYet) as raised:
        ValidationInterceptor().check(text_request(reuse_within=seconds(1)))
    assert raised.value.failure.metadata["field"] == "options.reuse_within"
