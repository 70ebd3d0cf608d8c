"""gRPC servicer of UsageService: sums and lines of the settled charges, and reconciliation."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from mediagate.v1 import cost_pb2, modality_pb2, usage_pb2, usage_pb2_grpc
from mediagate_server import rpc_context
from mediagate_server.api import page_tokens
from mediagate_server.api.billable_call_handler import RpcContext
from mediagate_server.api.convert import responses
from mediagate_server.api.page_tokens import PageTokens
from mediagate_server.errors import InvalidRequest, ScopeMissing
from mediagate_server.store.charge_queries import (
    Charge,
    ChargeFilter,
    ChargePosition,
    ChargeTotal,
    GroupBy,
    UsageTotals,
)
from mediagate_server.store.ledger_reconciliations import (
    Discrepancy,
    DiscrepancyKind,
    Reconciliation,
    ReconciliationFindings,
)
from mediagate_server.store.port import Store
from mediagate_server.store.records import LARGEST_NANOS

_KINDS: Final = {
    kind: usage_pb2.Discrepancy.Kind.Value(f"KIND_{kind.name}") for kind in DiscrepancyKind
}


def encode_reconciliation(
    findings: ReconciliationFindings,
) -> usage_pb2.GetReconciliationResponse:
    """Encode the response of GetReconciliation."""
    return usage_pb2.GetReconciliationResponse(
        last_pass=_encode_pass(findings.last) if findings.last else None,
        counts=_counts(findings.matched, findings.counts),
        discrepancies=[_encode_discrepancy(case) for case in findings.discrepancies],
    )


def _encode_pass(reconciliation: Reconciliation) -> usage_pb2.ReconciliationPass:
    return usage_pb2.ReconciliationPass(
        begin_time=responses.to_timestamp(reconciliation.begun_at),
        end_time=responses.to_timestamp(reconciliation.ended_at),
        list_start_time=responses.to_timestamp(reconciliation.since),
        complete=reconciliation.complete,
        listed=reconciliation.listed,
        counts=_counts(reconciliation.matched, reconciliation.counts),
    )


def _counts(matched: int, counts: Mapping[DiscrepancyKind, int]) -> usage_pb2.ReconciliationCounts:
    return usage_pb2.ReconciliationCounts(
        matched=matched,
        missing=counts.get(DiscrepancyKind.MISSING, 0),
        orphans=counts.get(DiscrepancyKind.ORPHAN, 0),
        foreign=counts.get(DiscrepancyKind.FOREIGN, 0),
        cost_differs=counts.get(DiscrepancyKind.COST, 0),
    )


def _encode_discrepancy(case: Discrepancy) -> usage_pb2.Discrepancy:
    return usage_pb2.Discrepancy(
        kind=_KINDS[case.kind],
        prediction_id=case.prediction_id,
        model=case.model,
        generation_id=case.generation_id,
        attempt=case.ordinal,
        tenant=case.tenant,
        ledger_usd_nanos=case.ledger_nanos,
        upstream_usd_nanos=case.upstream_nanos,
        create_time=responses.to_timestamp(case.created_at),
        find_time=responses.to_timestamp(case.found_at),
    )


MAX_RANGE: Final = timedelta(days=400)
"""The longest time that GetUsage adds up."""
ALL_TENANTS: Final = "*"
"""All tenants, in a filter. No tenant can have this id."""
_DAY: Final = timedelta(days=1)
_FIRST_MOMENT: Final = datetime.min.replace(tzinfo=UTC)
"""The first moment that a datetime can hold."""
_MAX_INT64: Final = 2**63 - 1
_MAX_INT32: Final = 2**31 - 1
_MAX_DURATION_SECONDS: Final = 315_576_000_000
"""Seconds: the bound of the type."""
_DIMENSIONS: Final = {
    usage_pb2.USAGE_DIMENSION_TENANT: (GroupBy.TENANT,),
    usage_pb2.USAGE_DIMENSION_MODEL: (GroupBy.MODEL,),
    usage_pb2.USAGE_DIMENSION_MODALITY: (GroupBy.MODALITY,),
    usage_pb2.USAGE_DIMENSION_LABEL: (GroupBy.LABEL,),
    usage_pb2.USAGE_DIMENSION_DAY: (GroupBy.DAY,),
    usage_pb2.USAGE_DIMENSION_PRICE: (GroupBy.TIER, GroupBy.PRICE_DATE),
}


class UsageService(usage_pb2_grpc.UsageServiceServicer):
    """UsageService: usage, charges and reconciliation. `now` is the time in UTC."""

    def __init__(self, store: Store, tokens: PageTokens, now: Callable[[], datetime]) -> None:
        self._store = store
        self._tokens = tokens
        self._now = now

    async def GetUsage(
        self, request: usage_pb2.GetUsageRequest, context: RpcContext
    ) -> usage_pb2.GetUsageResponse:
        """Sums the charges of a time range, by default the current month."""
        charge_filter = _decode_filter(request.filter, *self._time_range(request.filter))
        dimensions = [group for number in request.group_by for group in _DIMENSIONS[number]]
        totals = await self._store.totals(charge_filter, dimensions, request.label_key)
        return usage_pb2.GetUsageResponse(
            totals=[_encode_total(total, dimensions) for total in totals]
        )

    async def ListCharges(
        self, request: usage_pb2.ListChargesRequest, context: RpcContext
    ) -> usage_pb2.ListChargesResponse:
        """Lists charges, the last settled first."""
        usage_filter = request.filter
        charge_filter = _decode_filter(
            usage_filter, _moment(usage_filter, "start_time"), _moment(usage_filter, "end_time")
        )
        tokens = self._tokens.for_request("ListCharges", usage_filter)
        size = page_tokens.effective_page_size(request.page_size)
        after = tokens.read(request.page_token)
        charges = await self._store.charges(charge_filter, size + 1, _position(after))
        page, token = charges[:size], ""
        if len(charges) > size:
            token = tokens.write([page[-1].at.settled_us, page[-1].at.line])
        return usage_pb2.ListChargesResponse(
            charges=[_encode_charge(charge) for charge in page], next_page_token=token
        )

    async def GetReconciliation(
        self, request: usage_pb2.GetReconciliationRequest, context: RpcContext
    ) -> usage_pb2.GetReconciliationResponse:
        """Reports what reconciliation with upstream's list has found."""
        if not rpc_context.current_caller().admin:
            raise ScopeMissing("reconciliation is for admins", metadata={"scope": "admin"})
        start = self._now() - _DAY
        if request.HasField("start_time"):
            start = request.start_time.ToDatetime(UTC)
        findings = await self._store.reconciliations.findings(
            start, page_tokens.effective_page_size(request.page_size)
        )
        return encode_reconciliation(findings)

    def _time_range(self, usage_filter: usage_pb2.UsageFilter) -> tuple[datetime, datetime | None]:
        """Start and end of the sum; without an end: up to now."""
        start, end = _moment(usage_filter, "start_time"), _moment(usage_filter, "end_time")
        if start is None:
            if end == _FIRST_MOMENT:
                raise InvalidRequest.of("filter.end_time", "must be after the year 1 has begun")
            last = end - timedelta(microseconds=1) if end else self._now()
            start = last.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        if (end or self._now()) - start > MAX_RANGE:
            raise InvalidRequest.of("filter.start_time", f"must be within {MAX_RANGE.days} days")
        return start, end


def _decode_filter(
    usage_filter: usage_pb2.UsageFilter, start: datetime | None, end: datetime | None
) -> ChargeFilter:
    modality = ""
    if usage_filter.modality:
        modality = (
            modality_pb2.Modality.Name(usage_filter.modality).removeprefix("MODALITY_").lower()
        )
    return ChargeFilter(
        tenant=_tenant(usage_filter.tenant),
        models=tuple(usage_filter.models),
        modality=modality,
        labels=dict(usage_filter.labels),
        settled_from=start,
        settled_before=end,
    )


def _tenant(requested: str) -> str:
    """Whose charges; empty: everybody's. A tenant that is not there looks like any other one."""
    current = rpc_context.current_caller()
    if not requested or requested == current.tenant:
        return current.tenant
    if not current.admin:
        raise ScopeMissing("what other tenants spend is for admins", metadata={"scope": "admin"})
    return "" if requested == ALL_TENANTS else requested


def _position(token: list[Any] | None) -> ChargePosition | None:
    return None if token is None else ChargePosition(*token)


def _moment(usage_filter: usage_pb2.UsageFilter, name: str) -> datetime | None:
    if not usage_filter.HasField(name):  # type: ignore[arg-type]
        return None
    stamp: Timestamp = getattr(usage_filter, name)
    return stamp.ToDatetime(UTC)


def _encode_total(total: ChargeTotal, dimensions: list[GroupBy]) -> usage_pb2.UsageTotal:
    group = dict(zip(dimensions, total.group, strict=True))
    message = usage_pb2.UsageTotal(
        tenant=group.get(GroupBy.TENANT, ""),
        model=group.get(GroupBy.MODEL, ""),
        label_value=group.get(GroupBy.LABEL, ""),
        day=group.get(GroupBy.DAY, ""),
        price_tier=group.get(GroupBy.TIER, ""),
        price_date=group.get(GroupBy.PRICE_DATE, ""),
        charges=total.charges,
        generations=total.generations,
        settled_usd_nanos=min(total.settled_nanos, LARGEST_NANOS),
        assumed_usd_nanos=min(total.assumed_nanos, LARGEST_NANOS),
        unknown_charges=total.unknown_charges,
        usage=_usage(total.used),
    )
    if GroupBy.MODALITY in group:
        message.modality = responses.MODALITIES[group[GroupBy.MODALITY]]
    return message


def _encode_charge(charge: Charge) -> usage_pb2.Charge:
    return usage_pb2.Charge(
        generation_id=charge.generation_id,
        attempt=charge.ordinal,
        tenant=charge.tenant,
        model=charge.model,
        modality=responses.MODALITIES[charge.modality],
        cost=responses.encode_cost(charge.cost),
        usage=_usage(charge.used),
        settle_time=responses.to_timestamp(charge.settled_at),
        labels=charge.labels,
        prediction_id=charge.prediction_id,
        price_tier=charge.tier,
    )


def _usage(usage: UsageTotals) -> cost_pb2.Usage:
    """What was used, or the sum of it; what the contract has no room for is left out."""
    return cost_pb2.Usage(
        input_tokens=_count(usage.input_tokens),
        output_tokens=_count(usage.output_tokens),
        input_characters=_count(usage.input_characters),
        images=_count(usage.images, _MAX_INT32),
        media_duration=_duration(usage.media_nanos),
        run_duration=_duration(usage.run_nanos),
    )


def _count(number: int | None, most: int = _MAX_INT64) -> int | None:
    return None if number is None or number > most else number


def _duration(nanos: int | None) -> Duration | None:
    if nanos is None or nanos > _MAX_DURATION_SECONDS * 10**9:
        return None
    return Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
