"""Comparison of an invoice with the ledger, model by model. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from mediagate_cli.invoices import NOTHING, InvoiceAmount, slug_of

if TYPE_CHECKING:
    from mediagate.v1.usage_pb2 import UsageTotal

_PERCENT: Final = 100


class ComparisonVerdict(StrEnum):
    """Result of the comparison of one model."""

    AGREES = "agrees"
    DIFFERS = "differs"
    NOT_ON_INVOICE = "not on the invoice"
    NOT_IN_LEDGER = "not in the ledger"


@dataclass(frozen=True, slots=True)
class Difference:
    """Ledger and invoice of one model, in nano-dollars.

    `assumed` is the part of `ledger` that an assumed price settled. Charges that are `unknown` are
    in no amount.
    """

    model: str
    ledger: int
    invoice: Decimal
    verdict: ComparisonVerdict
    assumed: int
    unknown: int

    @property
    def nanos(self) -> Decimal:
        """Invoice minus ledger."""
        return self.invoice - self.ledger

    @property
    def percent(self) -> Decimal:
        """`nanos` as a percentage of the larger of the two."""
        larger = max(abs(self.invoice), Decimal(self.ledger))
        return self.nanos * _PERCENT / larger if larger else Decimal(0)


def compare_invoice(
    totals: "Iterable[UsageTotal]",
    invoice: Mapping[str, InvoiceAmount],
    tolerance: Decimal,
    aliases: Mapping[str, str],
) -> tuple[Difference, ...]:
    """Return all models of either side, the largest difference first.

    `tolerance` is in percent; `aliases` are slugs by the other names that the invoice may have. A
    name that is in neither is a model that the ledger does not have.
    """
    charged: defaultdict[str, list[UsageTotal]] = defaultdict(list)
    for total in totals:
        charged[slug_of(total.model)].append(total)
    billed: defaultdict[str, list[InvoiceAmount]] = defaultdict(list)
    for name, amount in invoice.items():
        billed[name if name in charged else aliases.get(name, name)].append(amount)
    differences = [
        _difference(model, charged.get(model, []), billed.get(model, []), tolerance)
        for model in sorted(charged.keys() | billed.keys())
    ]
    return tuple(sorted(differences, key=lambda difference: abs(difference.nanos), reverse=True))


def _difference(
    model: str, charged: "list[UsageTotal]", billed: list[InvoiceAmount], tolerance: Decimal
) -> Difference:
    assumed = sum(total.assumed_usd_nanos for total in charged)
    ledger = sum(total.settled_usd_nanos for total in charged) + assumed
    amount = sum(billed, NOTHING)
    allowed = max(abs(amount.nanos), Decimal(ledger)) * tolerance / _PERCENT + amount.slack
    if abs(amount.nanos - ledger) <= allowed:
        verdict = ComparisonVerdict.AGREES
    elif not charged:
        verdict = ComparisonVerdict.NOT_IN_LEDGER
    else:
        verdict = ComparisonVerdict.DIFFERS if billed else ComparisonVerdict.NOT_ON_INVOICE
    unknown = sum(total.unknown_charges for total in charged)
    return Difference(model, ledger, amount.nanos, verdict, assumed, unknown)
