"""Text generator: output of a language model in tokens.

The text opens by naming itself, takes up a little of the prompt, and is the same for the same
generator state. Nothing here knows about time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

from mediagate_sandbox.prompt_directives import strip_directives, texts_in

_WORD = re.compile(r"\s*\S+|\s+$")
_QUOTED_WORDS = 12
_LONGEST_TOKEN = 9
_CHARACTERS_PER_TOKEN = 4

_OPENINGS = (
    "Here is a short answer.",
    "Let me take this step by step.",
    "A few thoughts on that.",
    "That can be looked at from several sides.",
)
_SUBJECTS = (
    "The first thing to see",
    "What matters most here",
    "A good place to start",
    "The part people forget",
    "One way to test this",
    "The simplest reading",
    "What this rests on",
    "The next step",
)
_MIDDLES = (
    "is how the pieces fit together",
    "is that small parts are easier to check",
    "is to name what is known",
    "is the order in which things happen",
    "is to measure before deciding",
    "is that every choice has a price",
    "is to keep the question in view",
    "is where the data comes from",
)
_ENDINGS = (
    "and the rest follows from it.",
    "which a short example makes plain.",
    "so it pays to write it down.",
    "even when time is short.",
    "and that is cheap to try.",
    "as any reader can check.",
    "before anything larger is built.",
    "and it holds in most cases.",
)


def prompt_of(given: Mapping[str, Any], prompt_input: str) -> str:
    """Return the prompt: the last message if there are messages, else the prompt input."""
    texts = list(texts_in([given.get("messages")]))
    text = texts[-1] if texts else given.get(prompt_input)
    return strip_directives(text).strip() if isinstance(text, str) else ""


def compose_text(
    slug: str, prompt: str, random: Random, *, at_least: int, at_most: int
) -> list[str]:
    """Return a text of `at_least` to `at_most` tokens; their concatenation is the text."""
    pieces = split_tokens(f"[sandbox {slug}] {_echo(prompt)}{random.choice(_OPENINGS)}")
    sentences = 0
    while len(pieces) < at_least:
        sentences += 1
        pieces += split_tokens(("\n\n" if sentences % 5 == 0 else " ") + _sentence(random))
    return pieces[:at_most]


def split_tokens(text: str) -> list[str]:
    """Split a text into token-like pieces; joined, they give the text again."""
    pieces = []
    for word in _WORD.findall(text):
        if len(word) > _LONGEST_TOKEN:
            middle = len(word) // 2 + 1
            pieces += [word[:middle], word[middle:]]
        elif word:
            pieces.append(word)
    return pieces


def count_input_tokens(given: Iterable[Any]) -> int:
    """Estimate the input tokens: one per four characters of all texts."""
    characters = sum(len(strip_directives(text)) for text in texts_in(given))
    return math.ceil(characters / _CHARACTERS_PER_TOKEN)


def _echo(prompt: str) -> str:
    words = prompt.split()
    if not words:
        return ""
    ellipsis = " ..." if len(words) > _QUOTED_WORDS else ""
    return f'You asked: "{" ".join(words[:_QUOTED_WORDS])}{ellipsis}" '


def _sentence(random: Random) -> str:
    return f"{random.choice(_SUBJECTS)} {random.choice(_MIDDLES)}, {random.choice(_ENDINGS)}"
