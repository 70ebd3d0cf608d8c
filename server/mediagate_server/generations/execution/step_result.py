"""Results of a step: what it returns to its run, which settles them in one commit."""

from msgspec import Struct

from mediagate_server.catalog.pricing.prices import PriceSchedule
from mediagate_server.errors import Failure
from mediagate_server.store.records import Attempt, LedgerEntry
from mediagate_server.upstream.port import Prediction


class PredictionEnd(Struct, frozen=True):
    """How a prediction ended. None: upstream lost it. `is_complete`: its stream came to its end.

    `out_of_time`: it was cancelled because its share of the timeout was over.
    """

    prediction: Prediction | None
    is_complete: bool
    out_of_time: bool = False


class PredictionEnded(Struct, frozen=True):
    """The step's prediction is at its end: its output and its cost are to be settled.

    `attempt` may be newer than the record's: one that was accepted and over in one answer. `price`
    is the schedule that it was reserved by.
    """

    attempt: Attempt
    end: PredictionEnd
    price: PriceSchedule


class NeverAccepted(Struct, frozen=True):
    """The step ends with an attempt that upstream never took; `released` gives back its hold."""

    closed: Attempt
    released: LedgerEntry
    failure: Failure


StepResult = PredictionEnded | NeverAccepted
"""What `Step.run` returns; None instead: it has ended, or is left for the next process."""
