"""What reconciliation has found, as it is shown."""

from collections.abc import Mapping
from typing import Final

from mediagate.v1 import usage_pb2
from mediagate_server.services import shown
from mediagate_server.store.reconciliations import (
    Discrepancy,
    Findings,
    Mismatch,
    Reconciliation,
)

_KINDS: Final = {kind: usage_pb2.Discrepancy.Kind.Value(f"KIND_{kind.name}") for kind in Mismatch}


def response(found: Findings) -> usage_pb2.GetReconciliationResponse:
    """The answer of GetReconciliation."""
    return usage_pb2.GetReconciliationResponse(
        last_pass=_pass(found.last) if found.last else None,
        counts=_counts(found.matched, found.found),
        discrepancies=[_case(case) for case in found.discrepancies],
    )


def _pass(made: Reconciliation) -> usage_pb2.ReconciliationPass:
    return usage_pb2.ReconciliationPass(
        begin_time=shown.time(made.begun_at),
        end_time=shown.time(made.ended_at),
        list_start_time=shown.time(made.since),
        complete=made.complete,
        listed=made.listed,
        counts=_counts(made.matched, made.found),
    )


def _counts(matched: int, found: Mapping[Mismatch, int]) -> usage_pb2.ReconciliationCounts:
    return usage_pb2.ReconciliationCounts(
        matched=matched,
        missing=found.get(Mismatch.MISSING, 0),
        orphans=found.get(Mismatch.ORPHAN, 0),
        foreign=found.get(Mismatch.FOREIGN, 0),
        cost_differs=found.get(Mismatch.COST, 0),
    )


def _case(case: Discrepancy) -> usage_pb2.Discrepancy:
    return usage_pb2.Discrepancy(
        kind=_KINDS[case.kind],
        prediction_id=case.prediction_id,
        model=case.model,
        generation_id=case.generation_id,
        attempt=case.ordinal,
        tenant=case.tenant,
        ledger_usd_nanos=case.ledger_nanos,
        upstream_usd_nanos=case.upstream_nanos,
        create_time=shown.time(case.made_at),
        find_time=shown.time(case.found_at),
    )
