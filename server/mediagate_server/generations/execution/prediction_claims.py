"""Claims of predictions: each is one attempt's, whatever upstream answers.

An answer that names another attempt's prediction is no proof of what became of the create: it is
as good as lost. Taken at its word, it would show one caller what another has paid for.

Whose the predictions are is in the store, which one process writes: a look-up by its index, for
each claim. What is on its way there is kept here.
"""

from collections.abc import Iterable

import structlog

from mediagate_server.observability import metrics
from mediagate_server.store.generations import GenerationStore
from mediagate_server.store.records import Attempt

_log = structlog.get_logger()


class PredictionClaims:
    """Whose predictions are, for this process. Claimed before anything is made of an answer."""

    def __init__(self, store: GenerationStore) -> None:
        self._store = store
        self._pending: dict[str, str] = {}
        """Attempts by the predictions that they have claimed and not durably written yet."""

    async def claim(self, attempt_id: str, prediction_id: str) -> bool:
        """Whether the prediction is this attempt's from now on; False: it is another's.

        To be asked for an attempt of which no prediction is written down yet; asked again, it says
        the same. Raises StoreUnavailable, with nothing claimed.
        """
        holder = self._pending.get(prediction_id)
        if holder is not None:
            return holder == attempt_id
        self._pending[prediction_id] = attempt_id  # Before anybody else can ask.
        is_free = False
        try:
            is_free = not await self._store.claimed_predictions((prediction_id,))
        finally:
            if not is_free:
                del self._pending[prediction_id]
        return is_free

    @property
    def pending(self) -> Iterable[str]:
        """Predictions that are claimed here, of which the store may not know yet."""
        return self._pending.keys()

    def release_claim(self, attempt_id: str, prediction_id: str) -> None:
        """The store has it as another attempt's: the claim here is dropped."""
        if self._pending.get(prediction_id) == attempt_id:
            del self._pending[prediction_id]

    def release_unrecorded(self, attempts: Iterable[Attempt]) -> None:
        """These go on from what is stored: what they have claimed beyond that is free again.

        Held any longer, it would be kept from the attempt that it belongs to, and which is in doubt
        by now, as somebody's already.
        """
        recorded = {attempt.id: attempt.prediction_id for attempt in attempts}
        for prediction_id, holder in list(self._pending.items()):
            if recorded.get(holder, prediction_id) != prediction_id:
                del self._pending[prediction_id]

    def forget(self, attempts: Iterable[Attempt]) -> None:
        """What these have claimed is durable: the store has it."""
        for attempt in attempts:
            if self._pending.get(attempt.prediction_id) == attempt.id:
                del self._pending[attempt.prediction_id]


def report_misanswer(generation_id: str, attempt_id: str, prediction_id: str) -> None:
    """Upstream has answered a create with another's prediction: for the log and the metrics."""
    metrics.attempts_misanswered.inc()
    _log.warning(
        "create_misanswered",
        id=generation_id,
        attempt=attempt_id,
        prediction=prediction_id,
    )
