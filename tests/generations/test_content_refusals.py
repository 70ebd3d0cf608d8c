"""A model's refusal of the content, told from a failure by the words of the failed run."""

from itertools import product

import pytest

from mediagate_server.generations.transitions.content_refusals import (
    RunFailureKind,
    classify_failure,
)

from .refusal_phrases import FAILURES, REFUSALS, UNCLEAR

PHRASES = [
    *((text, RunFailureKind.REFUSAL) for text in REFUSALS),
    *((text, RunFailureKind.OTHER) for text in FAILURES),
    *((text, RunFailureKind.UNCLEAR) for text in UNCLEAR),
]


@pytest.mark.parametrize(("error", "meaning"), PHRASES)
def test_refusal_phrases(error: str | None, meaning: RunFailureKind) -> None:
    """Whatever stands around the words, whatever their case."""
    assert classify_failure(error) is meaning
    if error:
        assert classify_failure(f"Prediction failed: {error.upper()} :(") is meaning
    if error and " " in error:
        assert classify_failure(f'{{"error": {{"message": "{error}", "code": 400}}}}') is meaning


VERBS = ["violate", "violates", "violated", "violating", "are violating", "may violate",
         "might have violated", "breach", "breached", "do not comply with", "did not adhere to",
         "infringe", "is in violation of", "go against", "goes against"]  # fmt: skip
OWNERS = ["", "our ", "Google's ", "the provider\u2019s ", "Vertex AI's ", "OpenAI's "]
RULES = ["usage guidelines", "usage guideline", "content policy", "content policies",
         "terms of service", "community standards", "acceptable use policy",
         "Responsible AI practices"]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_refusal_verbs_match_in_every_form(verb: str) -> None:
    """The public report that began this said `they violated`; the table knew `violates`."""
    for owner, rules in product(OWNERS, RULES):
        text = f"Veo could not generate 2 videos because they {verb} {owner}{rules}."
        assert classify_failure(text) is RunFailureKind.REFUSAL, text


@pytest.mark.parametrize("guard", ["safety system", "safety filter", "safety filters",
                                   "content filter", "moderation", "content moderation",
                                   "safety checker", "NSFW filter", "risk control"])  # fmt: skip
def test_a_broken_filter_is_not_a_refusal(guard: str) -> None:
    """A filter that broke down has refused nothing."""
    for verb in ("rejected", "blocked", "flagged", "refused", "filtered out", "denied"):
        text = f"Your request was {verb} by our {guard}."
        assert classify_failure(text) is RunFailureKind.REFUSAL, text
    for trouble in ("could not load the {}", "failed to initialize {}", "{}: connection refused",
                    "{} service timed out", "CUDA error in {}"):  # fmt: skip
        text = trouble.format(guard)
        assert classify_failure(text) is RunFailureKind.OTHER, text


def test_a_refusal_is_found_at_either_end_of_a_long_text() -> None:
    """A traceback of a megabyte says what it comes to in its last line."""
    assert classify_failure("x = 1\n" * 200_000 + "NSFW content detected") is RunFailureKind.REFUSAL
    assert (
        classify_failure("NSFW content detected\n" + "x = 1\n" * 200_000) is RunFailureKind.REFUSAL
    )


def test_invisible_and_full_width_characters_are_normalized() -> None:
    """Words cut by what nobody sees, and letters as they are typed in other countries."""
    assert classify_failure("NS\u200bFW content detected") is RunFailureKind.REFUSAL
    wide = "".join(chr(ord(letter) + 0xFEE0) for letter in "Content") + " policy violation"
    assert classify_failure(wide) is RunFailureKind.REFUSAL


def test_logs_count_where_the_error_is_empty() -> None:
    """They may quote anything: a refusal in them is no more than unclear."""
    logs = "100%|####| 50/50\nPotential NSFW content was detected in one or more images."
    assert classify_failure(None, logs) is RunFailureKind.UNCLEAR
    assert classify_failure("", logs) is RunFailureKind.UNCLEAR
    assert classify_failure("Prediction failed.", logs) is RunFailureKind.UNCLEAR
    assert classify_failure("CUDA out of memory", logs) is RunFailureKind.OTHER
    assert classify_failure("Prediction failed.", "100%|####| 50/50") is RunFailureKind.OTHER
