"""Does the ledger agree with upstream's list? Pure: what each prediction and charge comes to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from mediagate_server import ledger
from mediagate_server.catalog import price_json
from mediagate_server.catalog.prices import PriceSchedule
from mediagate_server.replicate.port import Prediction
from mediagate_server.store.reconciliations import Discrepancy, Mismatch, Settlement

_prices = lru_cache(256)(price_json.loads)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of the charges: those that agree, by their predictions, and the cases."""

    matched: frozenset[str]
    differing: tuple[Discrepancy, ...]


def compare(
    settlements: Iterable[Settlement], predictions: Mapping[str, Prediction], now: datetime
) -> Comparison:
    """Hold each charge against the prediction that it is of; one that is not there is left out.

    What upstream shows as running still cannot be reckoned: the charge was made on its end, so
    the list is late, and the prediction is there.
    """
    matched: set[str] = set()
    differing: list[Discrepancy] = []
    for one in settlements:
        prediction = predictions.get(one.prediction_id)
        if prediction is None:
            continue
        if not prediction.status.is_terminal or not one.price:
            matched.add(one.prediction_id)
            continue
        price: PriceSchedule = _prices(one.price)
        line = ledger.settle(
            one.attempt_id, price, prediction.status, prediction.metrics, outputs=one.outputs
        )
        if line.amount_nanos == one.amount_nanos:
            matched.add(one.prediction_id)
        else:
            differing.append(
                of_charge(Mismatch.COST, one, now, line.amount_nanos, prediction.created_at)
            )
    return Comparison(frozenset(matched), tuple(differing))


def of_charge(
    kind: Mismatch,
    one: Settlement,
    now: datetime,
    upstream_nanos: int | None = None,
    made_at: datetime | None = None,
) -> Discrepancy:
    """A charge that upstream does not bear out."""
    return Discrepancy(
        kind,
        one.prediction_id,
        one.model,
        now,
        one.generation_id,
        one.ordinal,
        one.tenant,
        one.amount_nanos,
        upstream_nanos,
        made_at,
    )


def of_nobody(prediction: Prediction, now: datetime, *, exclusive: bool) -> Discrepancy:
    """A prediction that no attempt holds. What it comes to is not known: nor is its price."""
    kind = Mismatch.ORPHAN if exclusive else Mismatch.FOREIGN
    return Discrepancy(kind, prediction.id, prediction.model, now, made_at=prediction.created_at)
