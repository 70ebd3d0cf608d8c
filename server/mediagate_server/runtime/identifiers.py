"""Names for what is made here: nobody can guess them, and they rise with the time of their making.

The store keeps rows in the order of their names. New ones side by side share the pages that a
commit has to write; names without any order touch a page for each row and index, which costs three
times the processor time, and more the larger the database is (docs/decisions/0021).
"""

import os
import time
from collections import deque
from typing import Final

_BYTES: Final = 10
"""Of chance in each name: 80 bits, more than anybody can try."""
_AT_ONCE: Final = 256
_VARIANTS: Final = "89ab"
"""The hex digits whose first two bits are those of the RFC's UUIDs."""

# Drawn ahead: each draw from the system lets go of the interpreter's lock. Popping is atomic, so
# that threads never share one.
_pieces: deque[bytes] = deque()


def new_token() -> str:
    """Thirty-two hex digits: milliseconds since 1970 in twelve, then chance."""
    return f"{_milliseconds():012x}{_piece().hex()}"


def new_uuid() -> str:
    """A UUID of version 7 (RFC 9562): milliseconds since 1970, then 74 bits of chance."""
    time_of_day, chance = f"{_milliseconds():012x}", _piece().hex()
    variant = _VARIANTS[int(chance[3], 16) & 0b11]
    return (
        f"{time_of_day[:8]}-{time_of_day[8:]}-7{chance[:3]}-{variant}{chance[4:7]}-{chance[7:19]}"
    )


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


def _piece() -> bytes:
    try:
        return _pieces.pop()
    except IndexError:
        drawn = os.urandom(_BYTES * _AT_ONCE)
        _pieces.extend(drawn[i : i + _BYTES] for i in range(_BYTES, len(drawn), _BYTES))
        return drawn[:_BYTES]


os.register_at_fork(after_in_child=_pieces.clear)
