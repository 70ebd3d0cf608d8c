"""Reads the two request headers that shape a create: `Prefer` and `Cancel-After`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mediagate_sandbox.api_errors import invalid_header

LONGEST_WAIT = 60
"""Seconds; what a bare `Prefer: wait` means, and the most that can be asked for."""

_WAIT = re.compile(r"wait(?:\s*=\s*\"?(\d{1,9})\"?)?", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?", re.ASCII)
_SECONDS = re.compile(r"\d{1,6}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PreferWait:
    """How long a create may hold its answer back, and how that is confirmed."""

    seconds: int
    applied: str
    """Value of `Preference-Applied`."""


def parse_prefer(header: str | None) -> PreferWait | None:
    """The wait that `Prefer` asks for. A preference that is not understood is ignored."""
    for preference in (header or "").split(","):
        found = _WAIT.fullmatch(preference.strip())
        if found is None:
            continue
        if found.group(1) is None:
            return PreferWait(LONGEST_WAIT, "wait")
        seconds = max(1, min(int(found.group(1)), LONGEST_WAIT))
        return PreferWait(seconds, f"wait={seconds}")
    return None


def parse_cancel_after(header: str | None, shortest: float) -> int | None:
    """Seconds from creation to the deadline: `30s`, `5m`, `1h30m45s` or bare `30`.

    Raises Problem (422) for anything else, and for less than `shortest` seconds.
    """
    if header is None:
        return None
    value = header.strip()
    duration = _DURATION.fullmatch(value)
    if _SECONDS.fullmatch(value):
        seconds = int(value)
    elif value and duration is not None:
        hours, minutes, rest = (int(part or 0) for part in duration.groups())
        seconds = hours * 3600 + minutes * 60 + rest
    else:
        raise invalid_header("Cancel-After", "must be a duration such as 30s, 5m or 1h30m45s")
    if seconds < shortest:
        raise invalid_header("Cancel-After", f"must be at least {shortest:g} seconds")
    return seconds
