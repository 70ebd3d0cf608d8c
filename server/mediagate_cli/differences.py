"""An invoice held against the ledger, model by model. Pure.

Where the two are further apart than the tolerance, the row of the price list is named that is most
likely to be wrong: the one whose price would have to change least to explain it all.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Final

from mediagate_cli.invoices import Amount
from mediagate_cli.naming import NO_NAMES, Names, plain_name

_PERCENT: Final = 100
_NOTHING: Final = Amount(Decimal(0), Decimal(0), 0)


class Verdict(StrEnum):
    """How the two stand to each other."""

    AGREES = "agrees"
    DIFFERS = "differs"
    NOT_ON_INVOICE = "not on the invoice"
    NOT_IN_LEDGER = "not in the ledger"


@dataclass(frozen=True, slots=True)
class PriceRow:
    """What was charged by one row of a model's price list. Amounts are in nano-dollars.

    `tier` says when the row holds; empty: always. `assumed` is the part of `nanos` that was settled
    by an assumed price; `unknown` charges are in no amount.
    """

    model: str
    tier: str
    price_date: str
    nanos: int
    assumed: int
    unknown: int

    @property
    def name(self) -> str:
        """The row in a line: model, tier, date of the price."""
        tier = f" where {self.tier}" if self.tier else ""
        dated = f", price of {self.price_date}" if self.price_date else ", no price"
        return f"{self.model}{tier}{dated}"


@dataclass(frozen=True, slots=True)
class Difference:
    """One model in both. `suspect` is set where they are further apart than is tolerated.

    `called` are other names that the invoice has for it.
    """

    model: str
    ledger: int
    invoice: Decimal
    verdict: Verdict
    rows: tuple[PriceRow, ...]
    suspect: PriceRow | None
    called: tuple[str, ...] = ()

    @property
    def nanos(self) -> Decimal:
        """How much more the invoice says."""
        return self.invoice - self.ledger

    @property
    def percent(self) -> Decimal:
        """The same in parts of the larger of the two."""
        larger = max(abs(self.invoice), Decimal(self.ledger))
        return self.nanos * _PERCENT / larger if larger else Decimal(0)

    @property
    def factor(self) -> Decimal | None:
        """What the suspect's price would have to be multiplied with; None where nothing helps."""
        row = self.suspect
        if row is None or not row.nanos or row.unknown:
            return None
        return (row.nanos + self.nanos) / row.nanos


def compare(
    rows: Iterable[PriceRow],
    invoice: Mapping[str, Amount],
    tolerance: Decimal,
    names: Names = NO_NAMES,
) -> tuple[Difference, ...]:
    """Return all models of either side, the largest difference first. `tolerance` is in percent.

    `names` tell which model of the ledger's the invoice means.
    """
    by_model: defaultdict[str, list[PriceRow]] = defaultdict(list)
    for row in rows:
        by_model[plain_name(row.model)].append(row)
    charged = frozenset(by_model)
    called: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(invoice):
        called[names.meant(name, charged)].append(name)
    found = [
        replace(
            _difference(
                model,
                tuple(by_model.get(model, ())),
                [invoice[name] for name in called.get(model, ())],
                tolerance,
            ),
            called=tuple(name for name in called.get(model, ()) if name != model),
        )
        for model in sorted(charged | called.keys())
    ]
    return tuple(sorted(found, key=lambda one: abs(one.nanos), reverse=True))


def _difference(
    model: str, rows: tuple[PriceRow, ...], stated: list[Amount], tolerance: Decimal
) -> Difference:
    ledger = sum(row.nanos for row in rows)
    amount = sum(stated, _NOTHING)
    apart = amount.nanos - ledger
    allowed = max(abs(amount.nanos), Decimal(ledger)) * tolerance / _PERCENT + amount.slack
    if abs(apart) <= allowed:
        return Difference(model, ledger, amount.nanos, Verdict.AGREES, rows, None)
    verdict = Verdict.DIFFERS
    if not rows:
        verdict = Verdict.NOT_IN_LEDGER
    elif not stated:
        verdict = Verdict.NOT_ON_INVOICE
    return Difference(model, ledger, amount.nanos, verdict, rows, _suspect(rows, apart))


def _suspect(rows: tuple[PriceRow, ...], apart: Decimal) -> PriceRow | None:
    """Too little in the ledger: first of all what has no price. Else the row with most in it."""
    if apart > 0 and (unpriced := [row for row in rows if row.unknown]):
        return max(unpriced, key=lambda row: row.unknown)
    return max(rows, key=lambda row: row.nanos, default=None)
