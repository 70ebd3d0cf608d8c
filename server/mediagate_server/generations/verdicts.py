"""What a safety model's answer means. Pure, and strict: what cannot be read is never safe.

Llama Guard answers `safe`, or `unsafe` and, on the next line, the codes it found with commas
between them. The whole answer must be one of these; a sentence that mentions safe is neither.
"""

import re
from typing import Any

from mediagate_server.catalog.harms import HARMS
from mediagate_server.errors import ContentBlocked, Failure
from mediagate_server.generations import endings
from mediagate_server.store.records import Harm, Verdict

_BETWEEN = re.compile(r"[,\s]+")


def refusal_of(verdict: Verdict) -> Failure | None:
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
    text = endings.text_of(output)
    if text is None:
        return Verdict(safe=False, model=model, unreadable=True)
    first, _, rest = text.strip().partition("\n")
    first, rest = first.rstrip(), rest.strip()
    if first == "safe" and not rest:
        return Verdict(safe=True, model=model)
    if first != "unsafe":
        return Verdict(safe=False, model=model, unreadable=True)
    codes = dict.fromkeys(_BETWEEN.split(rest)) if rest else {}
    known = HARMS[harms]
    found = tuple(Harm(code, known[code]) for code in codes if code in known)
    return Verdict(safe=False, harms=found, model=model, unreadable=len(found) < len(codes))
