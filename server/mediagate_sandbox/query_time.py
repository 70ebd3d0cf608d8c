"""Parsing of ISO 8601 times in query parameters."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from mediagate_sandbox.api_errors import bad_request

_SPACED_OFFSET = re.compile(r" (\d\d:?\d\d)$")


def parse_query_time(value: str | None) -> datetime | None:
    """Parse an ISO 8601 time; without an offset it is UTC. An unescaped `+` arrives as a space.

    Raises ApiError (400) for anything else.
    """
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(_SPACED_OFFSET.sub(r"+\1", value))
    except ValueError:
        raise bad_request(f"Not an ISO 8601 date-time: {value}") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
