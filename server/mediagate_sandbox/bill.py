"""Bill of all predictions: model, metrics and cost, independent of any client's ledger.

A prediction is on the bill from the moment it is accepted, whoever got the answer, and its entry is
closed in the step that ends it. Entries are never forgotten, and can be written to a file as well.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from io import RawIOBase
from typing import Any

import orjson

from mediagate_sandbox.predictions import Prediction, Status
from mediagate_sandbox.price_list import PriceList
from mediagate_sandbox.request_log import input_sha256
from mediagate_sandbox.settings import Billing, SandboxSettings

log = logging.getLogger("mediagate.sandbox")


@dataclass(slots=True)
class BillEntry:
    """Bill entry of one prediction. `nanos` is None while it runs, and always without a price."""

    number: int
    """Counts up in order of acceptance."""
    id: str
    model: str
    status: Status
    created_at: datetime
    input_sha256: str
    webhook: str | None
    deployment: str | None
    ended_at: datetime | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """What was billed, as reported: metric to amount."""
    unmetered: tuple[str, ...] = ()
    """Metrics its price asks for that the run did not report: nothing was billed for them."""
    unpriced: str | None = None
    """Why there is no price, where there is none."""
    factor: str = "1"
    """How far the price had drifted when it was accepted, as a fraction."""
    nanos: int | None = None


class Bill:
    """All bill entries."""

    def __init__(
        self,
        settings: SandboxSettings,
        prices: PriceList,
        file: RawIOBase | None = None,
    ) -> None:
        """Create an empty bill; closed entries are written to `file` before the end is visible.

        What cannot be written is kept, and written as soon as the file takes it again.
        """
        self._prices = prices
        self._billing: Mapping[Status, Billing] = {
            "failed": settings.bill_failed,
            "canceled": settings.bill_canceled,
            "aborted": settings.bill_aborted,
        }
        self._file = file
        self._unwritten = b""
        self._complained = False
        self._entries: list[BillEntry] = []
        self._running: dict[str, tuple[BillEntry, Prediction]] = {}

    def open(self, prediction: Prediction, factor: Fraction = Fraction(1)) -> None:
        """Add the entry of an accepted prediction, at list price times `factor`."""
        request = prediction.request
        entry = BillEntry(
            number=prediction.number,
            id=prediction.id,
            model=request.model.slug,
            status=prediction.status,
            created_at=prediction.created_at,
            input_sha256=input_sha256(request.input),
            webhook=request.webhook,
            deployment=request.deployment,
            factor=str(factor),
        )
        self._entries.append(entry)
        self._running[prediction.id] = (entry, prediction)
        prediction.wait_for_end(self._close)

    def _close(self, prediction: Prediction) -> None:
        entry, _ = self._running.pop(prediction.id)
        entry.status = prediction.status
        entry.ended_at = prediction.completed_at
        if self._billing.get(prediction.status) == "free":
            entry.nanos = 0
        else:
            metrics = prediction.metrics or {}
            charge = self._prices.charge(entry.model, metrics, Fraction(entry.factor))
            entry.nanos, entry.metrics = charge.nanos, charge.billed
            entry.unmetered, entry.unpriced = charge.unmetered, charge.unpriced
        if self._file is not None:
            self._unwritten += orjson.dumps(entry, option=orjson.OPT_UTC_Z) + b"\n"
            self._write(self._file)

    def _write(self, file: RawIOBase) -> None:
        """Write pending entries. A write error is logged once; runs continue without the file."""
        try:
            while self._unwritten:
                self._unwritten = self._unwritten[file.write(self._unwritten) or 0 :]
        except OSError as error:
            if not self._complained:
                reason = error.strerror or type(error).__name__
                log.error("the bill's file cannot be written, the bill goes on without: %s", reason)  # noqa: TRY400
            self._complained = True
        else:
            self._complained = False

    def document(self, since: datetime | None = None, model: str | None = None) -> dict[str, Any]:
        """Return the bill as JSON: entries accepted since `since`, in order, and their total."""
        for entry, prediction in self._running.values():
            entry.status = prediction.status
        entries = [
            each
            for each in self._entries
            if (since is None or each.created_at >= since) and model in (None, each.model)
        ]
        ended = [each for each in entries if each.ended_at is not None]
        return {
            "total_nanos": sum(each.nanos for each in ended if each.nanos is not None),
            "predictions": len(entries),
            "running": len(entries) - len(ended),
            "unpriced": sum(each.nanos is None for each in ended),
            "entries": entries,
        }
