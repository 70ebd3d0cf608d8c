"""Reader of upstream's list of predictions for a period of time, page by page.

Also finds a prediction there that upstream does not find by its id any more: a replica that lags,
or a store that lost a row, answers 404 for what was paid. What is in neither has an unknown cost.
"""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Final

import structlog

from mediagate_server.generations.matching.prediction_matcher import MAX_CLOCK_SKEW
from mediagate_server.store.records import Attempt
from mediagate_server.upstream.port import NoResponse, Prediction, RequestRefused, Upstream


class ListUnavailable(Exception):
    """The list could not be read to its end: what came of it proves nothing of what did not."""


async def list_pages(
    upstream: Upstream, begins: datetime, ends: datetime | None
) -> AsyncIterator[tuple[Prediction, ...]]:
    """What was created from `begins` to `ends`, the newest first; None: until now.

    Raises ListUnavailable after the last page that could be read.
    """
    cursor: str | None = None
    seen: set[str] = set()
    while True:
        try:
            page = await upstream.list_predictions(
                cursor=cursor, created_after=begins, created_before=ends
            )
        except (RequestRefused, NoResponse):
            raise ListUnavailable from None
        yield page.predictions
        oldest = min((p.created_at for p in page.predictions if p.created_at), default=None)
        cursor = page.next_cursor
        if cursor is None or (oldest is not None and oldest < begins):
            return
        if cursor in seen:
            raise ListUnavailable  # A list that goes round in circles.
        seen.add(cursor)


_log = structlog.get_logger()
_MADE_WITHIN: Final = timedelta(minutes=5)
"""How long after its send one can have been made: a create is awaited for less."""


async def find_in_list(
    upstream: Upstream, attempt: Attempt, prediction_id: str
) -> Prediction | None:
    """The prediction as upstream's list has it; None where it is not there, or cannot be read."""
    sent = attempt.sent_at or attempt.created_at
    try:
        async for page in list_pages(upstream, sent - MAX_CLOCK_SKEW, sent + _MADE_WITHIN):
            for prediction in page:
                if prediction.id == prediction_id:
                    return prediction
    except ListUnavailable:
        pass
    _log.error("prediction_lost", prediction=prediction_id, attempt=attempt.id)
    return None
