"""What is shown to the safety model before a request is run."""

from typing import Any

import pytest

from mediagate_server.catalog.planning.request_media import PLACEHOLDER, to_data_uri
from mediagate_server.catalog.planning.request_plan import (
    MAX_SCREENED_CHARACTERS,
    screening_request,
)
from mediagate_server.catalog.request import (
    InlineSource,
    MediaInput,
    Message,
    Modality,
    ModelRequest,
    ResponseFormat,
    RunRequest,
)
from mediagate_server.catalog.schemas.openapi import ModelSchema
from mediagate_server.errors import InvalidRequest
from tests.catalog.builders import shipped_catalog

PICTURE = MediaInput("https://example.com/a.png")
TALK = (
    Message("system", ("Be kind.",)),
    Message("user", ("first", PICTURE)),
    Message("assistant", ("answer",)),
    Message("user", ("second",)),
)


def text_medium(text: str, media_type: str = "text/plain") -> MediaInput:
    """A text that came within the request as a file."""
    return MediaInput(to_data_uri(text.encode(), media_type))


@pytest.mark.parametrize(
    ("modality", "parameters", "content"),
    [
        (Modality.TEXT, {"prompt": "Hi", "system_prompt": "Be kind."}, "Hi\n\nBe kind."),
        (Modality.TEXT, {"messages": TALK}, "Be kind.\n\nfirst\n\nanswer\n\nsecond"),
        (Modality.TEXT, {"messages": (Message("tool", ("found",)),)}, "found"),
        (Modality.TEXT, {"messages": (Message("user", (text_medium("read"),)),)}, "read"),
        (
            Modality.TEXT,
            {"prompt": "https://a/b c", "stop_sequences": ("x y",)},
            "https://a/b c\n\nx y",
        ),
        (
            Modality.TEXT,
            {"prompt": "x", "response_format": ResponseFormat("json_schema", {"title": "a word"})},
            "x\n\na word",
        ),
        (Modality.IMAGE, {"prompt": "a cat", "negative_prompt": "blood"}, "a cat\n\nblood"),
        (Modality.IMAGE, {"prompt": "data:text/plain,a cat"}, "data:text/plain,a cat"),
        (
            Modality.IMAGE,
            {"prompt": " ", "mask": text_medium("<svg>x</svg>", "image/png")},
            "<svg>x</svg>",
        ),
        (Modality.IMAGE, {"mask": text_medium("GIF8 a cat", "image/gif")}, "GIF8 a cat"),
        (Modality.AUDIO, {"text": "say it", "voice": "deep"}, "say it\n\ndeep"),
        (Modality.AUDIO, {"prompt": "a song", "lyrics": "la la"}, "a song\n\nla la"),
        (
            Modality.VIDEO,
            {
                "first_frame": MediaInput(
                    PLACEHOLDER, InlineSource("ä".encode("utf-16"), "image/png")
                )
            },
            "ä",
        ),
        (Modality.VIDEO, {"first_frame": PICTURE}, None),
        (Modality.VIDEO, {"first_frame": MediaInput("data:image/png;base64,iVBORw0KGgo=")}, None),
        (Modality.VIDEO, {"prompt": " ", "first_frame": PICTURE}, None),
        (Modality.SAFETY, {"content": "itself"}, None),
    ],
)
def test_texts_that_are_screened(modality: Modality, parameters: Any, content: str | None) -> None:
    """Every text that can reach the model, whoever wrote it; no pictures and no links to any."""
    screening = screening_request(ModelRequest(modality, "", parameters, max_cost_nanos=1))
    assert (screening and screening.parameters) == (content and {"content": content})


SCHEMA = ModelSchema(
    {
        "components": {
            "schemas": {
                "Input": {
                    "type": "object",
                    "properties": {
                        "prompt": {"type": "string"},
                        "image": {"type": "string", "format": "uri"},
                        "images": {"type": "array", "items": {"type": "string", "format": "uri"}},
                        "either": {
                            "anyOf": [{"type": "string", "format": "uri"}, {"type": "string"}]
                        },
                        "deep": {
                            "type": "object",
                            "properties": {
                                "link": {"type": "string", "format": "uri"},
                                "words": {"type": "string"},
                            },
                        },
                    },
                },
                "Output": {},
            }
        }
    }
)
LINK = "https://example.com/a.png"
TEXT_LINK = "data:text/plain;base64,YSBjYXQ"
HIDDEN = "a cat"


@pytest.mark.parametrize(
    ("given", "content"),
    [
        ({"prompt": f"{LINK} is a cat"}, f"{LINK} is a cat"),
        ({"prompt": "http://x"}, "http://x"),
        ({"prompt": TEXT_LINK}, f"{TEXT_LINK}\n\n{HIDDEN}"),
        ({"prompt": "DATA:,a%20cat"}, f"DATA:,a%20cat\n\n{HIDDEN}"),
        ({"image": LINK, "images": [LINK, LINK]}, None),
        ({"image": "data:image/png;base64,iVBORw0KGgo="}, None),
        ({"image": f"{LINK} a cat"}, f"{LINK} a cat"),
        ({"image": TEXT_LINK}, HIDDEN),
        ({"images": [LINK, "draw a cat"]}, "draw a cat"),
        ({"either": LINK}, LINK),
        ({"deep": {"link": LINK, "words": LINK}}, f"link\n\nwords\n\n{LINK}"),
        ({"deep": {"a cat": [1, {"content": ["b"]}]}}, "a cat\n\nb"),
        ({"a cat that has a name longer than 32": 1}, "a cat that has a name longer than 32"),
        ({"turns": [{"role": "user", "content": "and a dog"}], "n": 3}, "user\n\nand a dog"),
        ({"image": 1, "prompt": "  "}, None),
    ],
)
def test_every_string_of_an_untyped_run_is_screened(
    given: dict[str, Any], content: str | None
) -> None:
    """Nobody knows which of its inputs is the prompt: left out is what the schema calls a link."""
    request = RunRequest("o/n", given, {}, timeout=60)
    screening = screening_request(request, SCHEMA.input_link_paths)
    assert (screening and screening.parameters) == (content and {"content": content})
    own = screening_request(
        ModelRequest(Modality.IMAGE, "", {}, model_parameters=given), SCHEMA.input_link_paths
    )
    assert (own and own.parameters) == (content and {"content": content})


def test_media_inputs_of_an_untyped_run() -> None:
    """A text is a text also as a file, and a link where the model takes words is words."""
    media = {
        "image": (MediaInput(LINK), text_medium("a cat")),
        "prompt": (MediaInput(f"{LINK}?a-cat"),),
        "images": (MediaInput(PLACEHOLDER, InlineSource(b"\x89PNG\r\n\x1a\n", "image/png")),),
    }
    screening = screening_request(RunRequest("o/n", {}, media, timeout=60), SCHEMA.input_link_paths)
    assert screening
    assert screening.parameters == {"content": f"a cat\n\n{LINK}?a-cat"}


def test_without_a_schema_every_string_is_screened() -> None:
    """Nobody can say what is a link there."""
    screening = screening_request(RunRequest("o/n", {"image": LINK}, {}, timeout=60))
    assert screening
    assert screening.parameters == {"content": LINK}


def test_too_long_texts_are_refused() -> None:
    """A safety model that is not shown all of it has not judged it."""
    longest = ModelRequest(Modality.TEXT, "", {"prompt": "x" * MAX_SCREENED_CHARACTERS})
    assert screening_request(longest)
    for request in (
        ModelRequest(
            Modality.TEXT, "", {"prompt": "x" * MAX_SCREENED_CHARACTERS, "system_prompt": "y"}
        ),
        RunRequest("o/n", {"a": ["x" * 60_000], "b": {"c": "x" * 60_000}}, {}, timeout=60),
    ):
        with pytest.raises(InvalidRequest) as refused:
            screening_request(request)
        (violation,) = refused.value.failure.violations
        assert violation.field == "options.screen_prompt"


def test_a_screening_is_planned_like_a_safety_check() -> None:
    """By the default safety model, as a user's turn, at a price."""
    screening = screening_request(ModelRequest(Modality.TEXT, "", {"prompt": "Hi"}))
    assert screening is not None
    plan = shipped_catalog().plan(screening)
    assert plan.modality is Modality.SAFETY
    assert plan.input == {"prompt": "Hi"}
    assert plan.estimate.maximum
