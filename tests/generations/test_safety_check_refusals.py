"""A check that was not passed is a refusal, and one that was passed is none."""

import pytest

from mediagate_server.generations.transitions.content_refusals import (
    RunFailureKind,
    classify_failure,
)

NOT_PASSED = [
    "Your prompt has not passed the safety review",
    "Your prompt has not yet passed the safety review",
    "The image has not passed content moderation.",
    "prompt hasn't passed the safety check",
    "prompt hasn\u2019t passed the safety check",
    "None of the images passed moderation",
    "None of the four images that were made for your prompt has passed moderation",
    "No image passed the content review",
    "Content not passed review",
    "The output never passed the safety check",
    "The prompt cannot pass content moderation",
    "The prompt did not pass the review",
    "The video failed to pass moderation",
    "The image was not able to pass the safety review",
    "0 of 4 images passed moderation",
    "0/4 passed the safety check",
    "Neither image passed the NSFW filter",
    "Safety review: 0 of 4 passed",
    "Content review: none passed",
    "The output passes none of the safety checks",
    "The prompt passed moderation, but the image did not pass moderation",
    '{"safety_check": {"passed": false}}',
    "Your prompt hasn't passed the safety review".replace("'", ""),
    "Ended without passing content moderation",
]
UNSURE = [
    "0 of 4 images passed",
    "passed 0 of 3 checks",
    "Your image has failed to get past our content review",
    "image did not make it through the review",
    "image did not make it through review",
    "Your prompt did not pass",
    "Only 1 of 4 images passed the review",
    "The prompt passed the review but the image has not passed",
    "It is shown only if it passes the safety check",
    "Passed to moderation, which refused it",
]
PASSED = [
    "The prompt passed the safety check; CUDA out of memory",
    "All images passed moderation",
    "Prompt passes the content review",
    "you did not pass a value for 'steps'",
]


@pytest.mark.parametrize("text", NOT_PASSED)
def test_phrases_of_a_failed_check(text: str) -> None:
    """Whatever negation stands before it, and however far."""
    assert classify_failure(text) is RunFailureKind.REFUSAL


@pytest.mark.parametrize("text", UNSURE)
def test_phrases_of_an_unclear_check(text: str) -> None:
    """The content is not sent on."""
    assert classify_failure(text) is not RunFailureKind.OTHER


@pytest.mark.parametrize("text", PASSED)
def test_phrases_of_a_passed_check(text: str) -> None:
    """Something else has failed."""
    assert classify_failure(text) is RunFailureKind.OTHER
