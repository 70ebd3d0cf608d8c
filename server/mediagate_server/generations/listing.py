"""Reads upstream's list of predictions for a stretch of time, page by page."""

from collections.abc import AsyncIterator
from datetime import datetime

from mediagate_server.generations.doors import UpstreamDoor
from mediagate_server.replicate.port import NoAnswer, Prediction, Refused


class ListUnread(Exception):
    """The list could not be read to its end: what came of it proves nothing of what did not."""


async def pages(
    upstream: UpstreamDoor, begins: datetime, ends: datetime | None
) -> AsyncIterator[tuple[Prediction, ...]]:
    """What was created from `begins` to `ends`, the newest first; None: until now.

    Raises ListUnread after the last page that could be read.
    """
    cursor: str | None = None
    seen: set[str] = set()
    while True:
        try:
            page = await upstream.list_predictions(
                cursor=cursor, created_after=begins, created_before=ends
            )
        except (Refused, NoAnswer):
            raise ListUnread from None
        yield page.predictions
        oldest = min((p.created_at for p in page.predictions if p.created_at), default=None)
        cursor = page.next_cursor
        if cursor is None or (oldest is not None and oldest < begins):
            return
        if cursor in seen:
            raise ListUnread  # A list that goes round in circles.
        seen.add(cursor)
