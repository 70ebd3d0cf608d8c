"""Predictions that upstream does not find by their ids any more, looked for in its list.

A replica that lags, or a store that lost a row, answers 404 for what was paid. The list is another
way to the same record; what is in neither has an unknown cost.
"""

from datetime import timedelta
from typing import Final

import structlog

from mediagate_server.generations.adopt import CLOCKS_DIFFER
from mediagate_server.generations.doors import UpstreamDoor
from mediagate_server.generations.listing import ListUnread, pages
from mediagate_server.replicate.port import Prediction
from mediagate_server.store.records import Attempt

_log = structlog.get_logger()

_MADE_WITHIN: Final = timedelta(minutes=5)
"""How long after its send one can have been made: a create is awaited for less."""


async def find_listed(
    upstream: UpstreamDoor, attempt: Attempt, prediction_id: str
) -> Prediction | None:
    """The prediction as upstream's list has it; None where it is not there, or cannot be read."""
    sent = attempt.sent_at or attempt.created_at
    try:
        async for page in pages(upstream, sent - CLOCKS_DIFFER, sent + _MADE_WITHIN):
            for prediction in page:
                if prediction.id == prediction_id:
                    return prediction
    except ListUnread:
        pass
    _log.error("prediction_lost", prediction=prediction_id, attempt=attempt.id)
    return None
