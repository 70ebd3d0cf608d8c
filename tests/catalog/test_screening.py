"""What is shown to the safety model before a request is run."""

from typing import Any

import pytest

from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.request import (
    MediaInput,
    Message,
    Modality,
    ModelRequest,
    RunRequest,
)
from mediagate_server.catalog.screening import screening_request

PICTURE = MediaInput("https://example.com/a.png")
TALK = (
    Message("system", ("Be kind.",)),
    Message("user", ("first", PICTURE)),
    Message("assistant", ("answer",)),
    Message("user", ("second",)),
)


@pytest.mark.parametrize(
    ("modality", "parameters", "content"),
    [
        (Modality.TEXT, {"prompt": "Hi", "system_prompt": "Be kind."}, "Hi"),
        (Modality.TEXT, {"messages": TALK}, "first\n\nsecond"),
        (Modality.IMAGE, {"prompt": "a cat", "negative_prompt": "blood"}, "a cat"),
        (Modality.AUDIO, {"text": "say it", "voice": "deep"}, "say it"),
        (Modality.AUDIO, {"prompt": "a song", "lyrics": "la la"}, "a song\n\nla la"),
        (Modality.VIDEO, {"first_frame": PICTURE}, None),
        (Modality.VIDEO, {"prompt": " ", "first_frame": PICTURE}, None),
    ],
)
def test_what_is_judged(modality: Modality, parameters: Any, content: str | None) -> None:
    """All that the user wrote, and nothing of what the program around them did."""
    made = screening_request(ModelRequest(modality, "", parameters, max_cost_nanos=1))
    assert (made and made.parameters) == (content and {"content": content})


def test_of_a_model_by_its_slug_every_string_is_judged() -> None:
    """Nobody knows which of its inputs is the prompt."""
    given = {
        "prompt": "a cat",
        "n": 3,
        "image": "https://example.com/a.png",
        "turns": [{"role": "user", "content": "and a dog"}],
    }
    made = screening_request(RunRequest("o/n", given, {}, timeout=60))
    assert made is not None
    assert made.parameters == {"content": "a cat\n\nuser\n\nand a dog"}
    assert screening_request(RunRequest("o/n", {"image": "data:a"}, {}, timeout=60)) is None


def test_it_is_planned_like_any_other_check() -> None:
    """By the default safety model, as a user's turn, at a price."""
    made = screening_request(ModelRequest(Modality.TEXT, "", {"prompt": "Hi"}))
    assert made is not None
    plan = Catalog.load().plan(made)
    assert plan.modality is Modality.SAFETY
    assert plan.input == {"prompt": "Hi"}
    assert plan.estimate.maximum
