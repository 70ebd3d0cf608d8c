"""Content refusal detection: tells a model's refusal of the content from any other failed run.

Refusals come as the free text of a failed run, in the words of whatever vendor stands behind the
model. `refusals.toml` is the table of what they are known to say; where a text may be a refusal
and may be none it is UNCLEAR, and whoever asks must not send the content to anybody else.
"""

import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from importlib.resources import files
from typing import Any, Final


class RunFailureKind(Enum):
    """What the error text of a failed run means."""

    REFUSAL = "refusal"
    """The model, or its vendor, refused the content."""
    UNCLEAR = "unclear"
    """It may be a refusal: the content is not to be sent to another model."""
    OTHER = "other"
    """Anything else: something broke, there was no room, an input could not be read."""


_MOST_READ: Final = 8 * 1024
"""Characters read at either end of a text. What a traceback comes to stands in its last line."""
_JOINTS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BETWEEN: Final = re.compile(r"[\W_]+")
_NEGATED: Final = re.compile(
    r"\b(?:no|0|zero|without any) (?:nsfw|sensitive|unsafe|prohibited|inappropriate|explicit)"
    r"(?: content| concepts?| words?| images?)?(?: was| were)? (?:found|detected)"
    r"|\b(?:not|never|nothing)(?: been| was)? flagged"
)
"""What says that there is nothing to refuse."""
_PASS: Final = re.compile(
    r"(?P<reserve>\b(?:not|n?t|no|none|never|nothing|neither|nor|cannot|fail\w*|unable|without|yet"
    r"|few|fewer|less|than|hardly|barely|zero|only|just|\d+|if|unless|until|before|must|should"
    r"|could|would)(?: \w+){0,12} )?"
    r"\bpass(?:ed|es) (?!(?:to|on|along|into|for|no|none|not|\d+|zero) )"
    r"(?:\w+ ){0,3}(?:check|review|moderation)s?\b"
    r"(?! (?:but|however|yet|except|only|though|although|while|whereas)\b)"
)
"""A check that was passed; with a `reserve` before it nobody knows whether it was."""
_NO_APOSTROPHE: Final = re.compile(
    r"\b((?:has|have|had|did|does|do|was|were|is|are|could|would|should|ca|wo)n)t\b"
)
_PREFIX: Final = re.compile(
    r"^(?:model error )?(?:prediction|generation|task|job|run) failed(?: with)?(?: error)?\b"
)
"""What wrappers put before a text: not this but what follows has failed."""
_FOREIGN: Final = re.compile(
    r"[^\W\d_\u0000-\u024f]{2}|[a-z][\u00df-\u024f\u1e00-\u1eff]|[\u00df-\u024f\u1e00-\u1eff][a-z]"
)
"""Two letters together that are not Latin, or a Latin one that English does not have."""
_CLAUSE_END: Final = re.compile(r"[:;!?()\[\]{}\n]+|[.,]\s|\s[-\u2013\u2014]+\s")
_MOST_CLAUSES: Final = 512
_BEFORE: Final = (
    ("account", RunFailureKind.UNCLEAR),
    ("refusal", RunFailureKind.REFUSAL),
)
_AFTER: Final = (
    ("likely", RunFailureKind.REFUSAL),
    ("concern", RunFailureKind.UNCLEAR),
    ("doubt", RunFailureKind.UNCLEAR),
)
_BESIDE_A_FAILURE: Final = ("likely", "concern")


def classify_failure(error: str | None, logs: str = "") -> RunFailureKind:
    """What a failed run means by its error text, and by its logs where that text says nothing.

    `logs` count where no pattern at all is found in the text: a refusal in them is UNCLEAR,
    because a log may quote anything.
    """
    if error and (found := _found(error)):
        return found
    is_in_logs = bool(logs) and _matches("refusal", _plain_words(logs[-_MOST_READ:]))
    return RunFailureKind.UNCLEAR if is_in_logs else RunFailureKind.OTHER


def _found(text: str) -> RunFailureKind | None:
    """The first class with a pattern that is found; None where no pattern knows the text."""
    words = _plain_words(text)
    for name, meaning in _BEFORE:
        if _matches(name, words):
            return meaning
    if _matches("breakdown", words) or _is_judge_failure(text, words):
        return RunFailureKind.OTHER
    if _matches("failure", words):
        names_content = any(_matches(name, words) for name in _BESIDE_A_FAILURE)
        is_unclear = names_content or _FOREIGN.search(words)
        return RunFailureKind.UNCLEAR if is_unclear else RunFailureKind.OTHER
    for name, meaning in _AFTER:
        if _matches(name, words):
            return meaning
    return RunFailureKind.UNCLEAR if _FOREIGN.search(words) else None


def _is_judge_failure(text: str, words: str) -> bool:
    """Whether what judges content broke, which only the words of one clause can tell.

    "failed to load moderation" says so; "failed to load: moderation" may be a refusal.
    """
    if not _matches("judge_failure", words):
        return False
    clauses = _CLAUSE_END.split(_ends(text), maxsplit=_MOST_CLAUSES)
    return any(_matches("judge_failure", _plain_words(clause)) for clause in clauses)


def _matches(name: str, words: str) -> bool:
    return any(pattern.search(words) for pattern in _table()[name])


def _ends(text: str) -> str:
    if len(text) > 2 * _MOST_READ:
        return f"{text[:_MOST_READ]} {text[-_MOST_READ:]}"
    return text


def _plain_words(text: str) -> str:
    """The text as the table's patterns expect it: see `refusals.toml`."""
    text = unicodedata.normalize("NFKC", _ends(text))
    text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    words = _BETWEEN.sub(" ", _JOINTS.sub(" ", text)).casefold().strip()
    words = _NO_APOSTROPHE.sub(r"\1 t", words)
    words = _NEGATED.sub(" ", _PREFIX.sub("", words))
    return _PASS.sub(lambda found: found[0] if found["reserve"] else " ", words).strip()


@cache
def _table() -> Mapping[str, tuple[re.Pattern[str], ...]]:
    text = files(__package__).joinpath("refusals.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    words: dict[str, str] = {}
    for name, expression in document.pop("words").items():
        words[name] = _filled(expression, words)
    return {
        name: tuple(re.compile(_filled(each, words)) for each in _patterns(families))
        for name, families in document.items()
    }


def _patterns(families: Mapping[str, Any]) -> Iterator[str]:
    for family in families.values():
        yield from family


def _filled(pattern: str, words: Mapping[str, str]) -> str:
    for name, expression in words.items():
        pattern = pattern.replace(f"<{name}>", expression)
    return pattern
