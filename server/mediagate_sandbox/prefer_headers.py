"""Parsing of the `Prefer` and `Cancel-After` request headers."""

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
    """Wait of a synchronous create, and the value that confirms it."""

    seconds: int
    applied: str
    """Value of `Preference-Applied`."""


def parse_prefer(header: str | None) -> PreferWait | None:
    """Parse `Prefer: wait`. Unknown preferences are ignored."""
    for preference in (header or "").split(","):
        match = _WAIT.fullmatch(preference.strip())
        if match is None:
            continue
        if match.group(1) is None:
            return PreferWait(LONGEST_WAIT, "wait")
        seconds = max(1, min(int(match.group(1)), LONGEST_WAIT))
        return PreferWait(seconds, f"wait={seconds}")
    return None


def parse_cancel_after(header: str | None, shortest: float) -> int | None:
    """Parse `Cancel-After` to seconds: `30s`, `5m`, `1h30m45s` or bare `30`.

    Raises ApiError (422) for anything else, and for less than `shortest` seconds.
    """
    if header is None:
        return None
    value = header.strip()
    duration = _DURATION.fullmatch(value)
    if _SECONDS.fullmatch(value):
        seconds = int(value)
    elif value and duration is not None:
        hours, minutes, rest = (int(number or 0) for number in duration.groups())
        seconds = hours * 3600 + minutes * 60 + rest
    else:
        raise invalid_header("Cancel-After", "must be a duration such as 30s, 5m or 1h30m45s")
    if seconds < shortest:
        raise invalid_header("Cancel-After", f"must be at least {shortest:g} seconds")
    return seconds
