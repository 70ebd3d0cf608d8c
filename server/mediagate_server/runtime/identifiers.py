"""Identifiers: time-ordered and unguessable (as UUID version 7).

The store keeps rows in the order of their ids. New ones side by side share the pages that a commit
writes; random ids touch a page for each row and index, which costs three times the processor time,
and more the larger the database is (docs/decisions/0021).
"""

import os
import time
from collections import deque
from typing import Final

_BYTES: Final = 10
"""Random bytes in each identifier: 80 bits, which cannot be guessed."""
_BATCH: Final = 256
_VARIANTS: Final = "89ab"
"""Hex digits with the variant bits of RFC 9562."""

# Drawn in batches, as each os.urandom releases the interpreter's lock. Popping is atomic, so
# threads never share one.
_random_parts: deque[bytes] = deque()


def new_token() -> str:
    """Thirty-two hex digits: milliseconds since 1970 in twelve, then random ones."""
    return f"{_milliseconds():012x}{_random_part().hex()}"


def new_uuid() -> str:
    """A UUID of version 7 (RFC 9562): milliseconds since 1970, then 74 random bits."""
    timestamp, random = f"{_milliseconds():012x}", _random_part().hex()
    variant = _VARIANTS[int(random[3], 16) & 0b11]
    return f"{timestamp[:8]}-{timestamp[8:]}-7{random[:3]}-{variant}{random[4:7]}-{random[7:19]}"


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


def _random_part() -> bytes:
    try:
        return _random_parts.pop()
    except IndexError:
        random = os.urandom(_BYTES * _BATCH)
        _random_parts.extend(random[i : i + _BYTES] for i in range(_BYTES, len(random), _BYTES))
        return random[:_BYTES]


os.register_at_fork(after_in_child=_random_parts.clear)
