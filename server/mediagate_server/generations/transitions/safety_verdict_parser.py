"""Safety verdict: the meaning of a safety model's answer. Pure, and closed: what cannot be read is
never safe.

Llama Guard answers `safe`, or `unsafe` and, on the next line, the codes it found with commas
between them. Only that one word is safe. The codes are read in whatever form they come: in small
letters, with other signs between them, with names beside or in place of them, with words around.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from mediagate_server.catalog.models.safety_categories import SAFETY_CATEGORIES
from mediagate_server.errors import ContentBlocked, Failure
from mediagate_server.generations.transitions import prediction_usage
from mediagate_server.store.records import SafetyFinding, Verdict

_UNSAFE = re.compile(r"[\W_]*unsafe(?![^\W_])", re.IGNORECASE)
"""The verdict, with or without marks around it, at the beginning of an answer."""
_CODE = re.compile(r"(?<![^\W_])([A-Z])(?:[ ._-]|)0*(\d{1,3})(?![^\W_])", re.IGNORECASE)
"""A letter and a number, as all generations of the model have them."""
_LONGEST_READ = 64 * 1024
_NOT_LETTERS = re.compile(r"[\W_]+")


def content_blocked_failure(verdict: Verdict) -> Failure | None:
    """What a screened request ends with: None where the verdict is safe, and only there."""
    if verdict.safe:
        return None
    metadata = {
        "by": "screening",
        "model": verdict.model,
        "categories": ",".join(harm.code for harm in verdict.harms),
    }
    if verdict.unreadable:
        metadata["unreadable"] = "true"
    return ContentBlocked("the prompt was refused by the screening", metadata=metadata).failure


def read_verdict(output: Any, harms: str, model: str) -> Verdict:
    """The verdict in a terminal record's `output`: a string, or its pieces.

    `harms` names the list of categories that the model answers by. What cannot be read, in whole
    or in part, is unsafe and says so; the categories are those that could be read.
    """
    text = prediction_usage.output_text(output)
    if text is not None and text.strip() == "safe":
        return Verdict(safe=True, model=model)
    verdict = _UNSAFE.match(text) if text is not None else None
    if text is None or verdict is None:
        return Verdict(safe=False, model=model, unreadable=True)
    told = text[verdict.end() :]
    rest = unicodedata.normalize("NFKC", told[:_LONGEST_READ])
    known = SAFETY_CATEGORIES[harms]
    codes = dict.fromkeys(f"{code[1].upper()}{code[2]}" for code in _CODE.finditer(rest))
    codes = codes or dict.fromkeys(_named_codes(rest, known))
    found = tuple(SafetyFinding(code, known[code]) for code in codes if code in known)
    is_cut = len(told) > _LONGEST_READ
    is_unread = is_cut or len(found) < len(codes) or bool(not codes and _plain(rest))
    return Verdict(safe=False, harms=found, model=model, unreadable=is_unread)


def _named_codes(text: str, known: Mapping[str, str]) -> Iterator[str]:
    """Codes of the categories that are told by their names alone, in the order of the text."""
    words = f" {_plain(text)} "
    places = []
    # The longer ones first: a name may be the end of another.
    for code, name in sorted(known.items(), key=lambda item: -len(item[1])):
        plain = f" {_plain(name)} "
        if (at := words.find(plain)) >= 0:
            places.append((at, code))
            words = words.replace(plain, " " * len(plain))
    yield from (code for _, code in sorted(places))


def _plain(text: str) -> str:
    return _NOT_LETTERS.sub(" ", text).strip().casefold()
