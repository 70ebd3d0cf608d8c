"""A verdict is read strictly: nothing that cannot be read passes as safe."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mediagate_server.catalog.models.safety_categories import SAFETY_CATEGORIES
from mediagate_server.errors import Reason
from mediagate_server.generations.transitions.safety_verdict_parser import (
    content_blocked_failure,
    read_verdict,
)
from mediagate_server.store.records import SafetyFinding, Verdict

CODES = SAFETY_CATEGORIES["llama_guard_3"]
MODEL = "meta/llama-guard-3-8b"


def read(output: Any) -> Verdict:
    """The verdict in an answer of Llama Guard 3."""
    return read_verdict(output, "llama_guard_3", MODEL)


def unsafe(*codes: str, unreadable: bool = False) -> Verdict:
    """What was found, by code."""
    harms = tuple(SafetyFinding(code, CODES[code]) for code in codes)
    return Verdict(safe=False, model=MODEL, harms=harms, unreadable=unreadable)


SAFE = Verdict(safe=True, model=MODEL)
UNREADABLE = unsafe(unreadable=True)


@pytest.mark.parametrize(
    ("output", "verdict"),
    [
        ("safe", SAFE),
        ("\n\nsafe", SAFE),
        ("safe \n", SAFE),
        (["sa", "fe"], SAFE),
        (["\n\n", "safe", ""], SAFE),
        ("unsafe\nS1,S10", unsafe("S1", "S10")),
        ("\n\nunsafe\nS2", unsafe("S2")),
        ("unsafe \r\nS2, S14\n", unsafe("S2", "S14")),
        (["un", "safe\nS", "9"], unsafe("S9")),
        ("unsafe\nS3,S3", unsafe("S3")),
        ("unsafe", unsafe()),
        ("unsafe\nS99", UNREADABLE),
        ("unsafe\nS1,S99", unsafe("S1", unreadable=True)),
        ("unsafe\nS1 because it names a weapon", unsafe("S1")),
        ("unsafe\nS0", UNREADABLE),
        ("unsafe\ns1", unsafe("S1")),
        ("unsafe\ns1,s10", unsafe("S1", "S10")),
        ("unsafe\nS1;S10", unsafe("S1", "S10")),
        ("unsafe\nS1; s2 | S3/S4", unsafe("S1", "S2", "S3", "S4")),
        ("unsafe\nS1\nS2\n\nS3", unsafe("S1", "S2", "S3")),
        ("unsafe S1, S2", unsafe("S1", "S2")),
        ("unsafe: S1", unsafe("S1")),
        ("unsafe,S1", unsafe("S1")),
        ("**unsafe**\n- S1\n- S2", unsafe("S1", "S2")),
        ("unsafe\nS1: Violent Crimes", unsafe("S1")),
        ("unsafe\nS1: Violent Crimes; S10: Hate", unsafe("S1", "S10")),
        ("unsafe\nS10 (Hate), S11 (Suicide & Self-Harm)", unsafe("S10", "S11")),
        ("unsafe\n['S1', 'S2']", unsafe("S1", "S2")),
        ("unsafe\nCategories: S1.", unsafe("S1")),
        ("unsafe\nS01, S-2, S 3, S_4", unsafe("S1", "S2", "S3", "S4")),
        ("unsafe\nViolent Crimes", unsafe("S1")),
        ("unsafe\nNon-Violent Crimes", unsafe("S2")),
        ("unsafe\nhate, violent crimes", unsafe("S10", "S1")),
        ("unsafe\nNon-Violent Crimes and Violent Crimes", unsafe("S2", "S1")),
        ("unsafe\n\uff33\uff11", unsafe("S1")),
        ("Unsafe\nS1", unsafe("S1")),
        ("UNSAFE\nS1", unsafe("S1")),
        ("unsafe\nO3", UNREADABLE),
        ("unsafe\n1, 10", UNREADABLE),
        ("unsafe\nsomething else", UNREADABLE),
        ("unsafe.", unsafe()),
        ("unsafest\nS1", UNREADABLE),
        ("Safe.", UNREADABLE),
        ("Safe", UNREADABLE),
        ("SAFE", UNREADABLE),
        ("safe.", UNREADABLE),
        ("safe\nS1", UNREADABLE),
        ("safe\nunsafe", UNREADABLE),
        ("safe safe", UNREADABLE),
        ("not unsafe", UNREADABLE),
        ("It is unsafe. S1", UNREADABLE),
        ("I think that this is safe to answer.", UNREADABLE),
        ("It is\nsafe", UNREADABLE),
        ("", UNREADABLE),
        ("\n", UNREADABLE),
        ([], UNREADABLE),
        (None, UNREADABLE),
        ({"verdict": "safe"}, UNREADABLE),
        (["safe", None], UNREADABLE),
        (True, UNREADABLE),
        (1, UNREADABLE),
    ],
)
def test_answers_of_safety_models(output: Any, verdict: Verdict) -> None:
    """Everything that a model has been seen to say, and worse."""
    assert read(output) == verdict


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
NEARLY = st.sampled_from(
    ["safe", "unsafe", "Safe", "SAFE", "S1", "S14", "S15", ",", ".", "\n", "\t", "'", "\u200b"]
)


@given(JSON | st.lists(NEARLY).map("".join) | st.lists(NEARLY))
@example("\u200bsafe")
@example("safe\u200b")
@example("\u017fafe")
def test_only_the_exact_word_is_safe(output: Any) -> None:
    """Whatever comes, safe is said only where the answer is that word and white space."""
    text = "".join(output) if isinstance(output, list) and _strings(output) else output
    assert read(output).safe == (isinstance(text, str) and text.strip() == "safe")


@given(st.lists(st.sampled_from(sorted(CODES)), min_size=1, unique=True), st.data())
def test_every_category_is_found_in_streamed_answers(codes: list[str], data: st.DataObject) -> None:
    """In the model's order, whether the answer comes whole or in pieces."""
    full_text = "unsafe\n" + ",".join(codes)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(full_text)), max_size=5)))
    pieces = [full_text[i:j] for i, j in zip([0, *cuts], [*cuts, len(full_text)], strict=True)]
    assert read(pieces) == read(full_text) == unsafe(*codes)


def test_a_safe_verdict_has_no_categories() -> None:
    """Not even by a mistake of ours."""
    for spoiled in ({"unreadable": True}, {"harms": (SafetyFinding("S1", CODES["S1"]),)}):
        with pytest.raises(ValueError, match="not safe"):
            Verdict(safe=True, model=MODEL, **spoiled)


def test_only_a_safe_verdict_passes() -> None:
    """The categories are told; so is it where the answer could not be read."""
    assert content_blocked_failure(SAFE) is None
    refused = content_blocked_failure(unsafe("S1", "S10"))
    assert refused is not None
    assert refused.reason is Reason.CONTENT_BLOCKED
    assert refused.metadata == {"by": "screening", "model": MODEL, "categories": "S1,S10"}
    unread = content_blocked_failure(UNREADABLE)
    assert unread is not None
    assert unread.metadata["unreadable"] == "true"


def _strings(pieces: list[Any]) -> bool:
    return all(isinstance(piece, str) for piece in pieces)
