"""Protocol of the run that a step belongs to, towards that step."""

from typing import Protocol

from msgspec import Struct

from mediagate_server.catalog.pricing.prices import PriceSchedule
from mediagate_server.errors import Failure
from mediagate_server.generations.transitions.attempts import StepKey
from mediagate_server.store.records import Attempt, LedgerEntry
from mediagate_server.upstream.port import Prediction


class PredictionEnd(Struct, frozen=True):
    """How a prediction ended. None: upstream lost it. `is_complete`: its stream came to its end.

    `out_of_time`: it was cancelled because its share of the timeout was over.
    """

    prediction: Prediction | None
    is_complete: bool
    out_of_time: bool = False


class StepHost(Protocol):
    """The generation that a step belongs to."""

    def on_text(self, text: str, event_id: str) -> None:
        """A piece of the output, up to upstream's event of this id."""
        ...

    def reset_error_count(self) -> None:
        """An answer about any of its predictions, which is no end, did no harm."""
        ...

    def progress(self, key: StepKey, prediction: Prediction) -> None:
        """An answer about a step's prediction, that is no end."""
        ...

    async def settle(
        self, attempt: Attempt, end: PredictionEnd, price: PriceSchedule | None
    ) -> None:
        """The attempt's prediction is at its end: settle it, durably.

        `price` is the schedule it was reserved by, where this process still has it.
        """
        ...

    async def fail_unsubmitted(
        self, closed: Attempt, released: LedgerEntry, failure: Failure
    ) -> None:
        """The step ends with an attempt that upstream never took."""
        ...
