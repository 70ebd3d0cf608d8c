"""Safety model of the sandbox: unsafe by a word list.

It is a stand-in with a known answer for known words, not a filter anyone should rely on.
"""

from __future__ import annotations

import re

SAFE = "safe"
_SIGNS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (code, re.compile(words, re.IGNORECASE))
    for code, words in (
        ("S1", r"\b(violence|violent|murder|kill (him|her|them|someone|a person)|terror attack)\b"),
        ("S2", r"\b(steal|shoplift|launder money|counterfeit)\b"),
        ("S7", r"\b(home address of|social security number of)\b"),
        ("S9", r"\b(weapons?|build a bomb|pipe bomb|nerve agent)\b"),
        ("S10", r"\b(ethnic slur|hate speech)\b"),
        ("S11", r"\b(hurt myself|end my life|kill myself)\b"),
        ("S12", r"\b(explicit sex|porn)\b"),
        ("S14", r"\b(fork bomb|sandbox escape)\b"),
    )
)


def judge_text(text: str) -> str:
    """`safe`, or `unsafe`, a line break and the comma separated category codes."""
    codes = [code for code, sign in _SIGNS if sign.search(text)]
    return unsafe(",".join(codes)) if codes else SAFE


def unsafe(codes: str) -> str:
    """Return the output of a model that found these categories."""
    return f"unsafe\n{codes}"
