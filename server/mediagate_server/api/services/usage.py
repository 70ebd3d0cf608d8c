"""UsageService: what was used and what it cost, from the settled lines of the ledger.

What reconciliation has found, as it is shown.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from mediagate.v1 import cost_pb2, modality_pb2, usage_pb2, usage_pb2_grpc
from mediagate_server.api import page_tokens
from mediagate_server.api.billable_calls import RpcContext
from mediagate_server.api.convert import responses
from mediagate_server.api.page_tokens import PageTokens
from mediagate_server.context import caller
from mediagate_server.errors import InvalidRequest, ScopeMissing
from mediagate_server.store.charges import (
    Charge,
    ChargeFilter,
    ChargePosition,
    ChargeTotal,
    GroupBy,
    UsageTotals,
)
from mediagate_server.store.port import Store
from mediagate_server.store.reconciliations import (
    Discrepancy,
    DiscrepancyKind,
    Reconciliation,
    ReconciliationFindings,
)
from mediagate_server.store.records import LARGEST_NANOS

_KINDS: Final = {
    kind: usage_pb2.Discrepancy.Kind.Value(f"KIND_{kind.name}") for kind in DiscrepancyKind
}


def encode_reconciliation(found: ReconciliationFindings) -> usage_pb2.GetReconciliationResponse:
    """The answer of GetReconciliation."""
    return usage_pb2.GetReconciliationResponse(
        last_pass=_pass(found.last) if found.last else None,
        counts=_counts(found.matched, found.counts),
        discrepancies=[_case(case) for case in found.discrepancies],
    )


def _pass(made: Reconciliation) -> usage_pb2.ReconciliationPass:
    return usage_pb2.ReconciliationPass(
        begin_time=responses.to_timestamp(made.begun_at),
        end_time=responses.to_timestamp(made.ended_at),
        list_start_time=responses.to_timestamp(made.since),
        complete=made.complete,
        listed=made.listed,
        counts=_counts(made.matched, made.counts),
    )


def _counts(matched: int, found: Mapping[DiscrepancyKind, int]) -> usage_pb2.ReconciliationCounts:
    return usage_pb2.ReconciliationCounts(
        matched=matched,
        missing=found.get(DiscrepancyKind.MISSING, 0),
        orphans=found.get(DiscrepancyKind.ORPHAN, 0),
        foreign=found.get(DiscrepancyKind.FOREIGN, 0),
        cost_differs=found.get(DiscrepancyKind.COST, 0),
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
        create_time=responses.to_timestamp(case.created_at),
        find_time=responses.to_timestamp(case.found_at),
    )


MAX_RANGE: Final = timedelta(days=400)
"""The longest time that GetUsage adds up."""
ALL_TENANTS: Final = "*"
"""What a filter calls all tenants. No tenant can have this id."""
_A_DAY: Final = timedelta(days=1)
_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
"""The first moment that can be told."""
_MOST: Final = 2**63 - 1
_MOST_IMAGES: Final = 2**31 - 1
_LONGEST_DURATION: Final = 315_576_000_000
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
    """See usage.proto. `now` is the time in UTC."""

    def __init__(self, store: Store, tokens: PageTokens, now: Callable[[], datetime]) -> None:
        self._store = store
        self._tokens = tokens
        self._now = now

    async def GetUsage(
        self, request: usage_pb2.GetUsageRequest, context: RpcContext
    ) -> usage_pb2.GetUsageResponse:
        """Adds up the charges of a time, the running month unless told."""
        wanted = _filter(request.filter, *self._range(request.filter))
        dimensions = [one for number in request.group_by for one in _DIMENSIONS[number]]
        found = await self._store.totals(wanted, dimensions, request.label_key)
        return usage_pb2.GetUsageResponse(totals=[_total(one, dimensions) for one in found])

    async def ListCharges(
        self, request: usage_pb2.ListChargesRequest, context: RpcContext
    ) -> usage_pb2.ListChargesResponse:
        """Lists the single charges, the last settled first."""
        asked = request.filter
        wanted = _filter(asked, _moment(asked, "start_time"), _moment(asked, "end_time"))
        tokens = self._tokens.for_request("ListCharges", asked)
        size = page_tokens.effective_page_size(request.page_size)
        after = tokens.read(request.page_token)
        found = await self._store.charges(wanted, size + 1, _position(after))
        page, token = found[:size], ""
        if len(found) > size:
            token = tokens.write([page[-1].at.settled_us, page[-1].at.line])
        return usage_pb2.ListChargesResponse(
            charges=[_charge(one) for one in page], next_page_token=token
        )

    async def GetReconciliation(
        self, request: usage_pb2.GetReconciliationRequest, context: RpcContext
    ) -> usage_pb2.GetReconciliationResponse:
        """Shows what passes over upstream's list have found."""
        if not caller.current_caller().admin:
            raise ScopeMissing("reconciliation is for admins", metadata={"scope": "admin"})
        start = self._now() - _A_DAY
        if request.HasField("start_time"):
            start = request.start_time.ToDatetime(UTC)
        found = await self._store.reconciliations.findings(
            start, page_tokens.effective_page_size(request.page_size)
        )
        return encode_reconciliation(found)

    def _range(self, asked: usage_pb2.UsageFilter) -> tuple[datetime, datetime | None]:
        """From when until when to add up; None: everything there is by now."""
        start, end = _moment(asked, "start_time"), _moment(asked, "end_time")
        if start is None:
            if end == _BEGINNING:
                raise InvalidRequest.of("filter.end_time", "must be after the year 1 has begun")
            last = end - timedelta(microseconds=1) if end else self._now()
            start = last.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        if (end or self._now()) - start > MAX_RANGE:
            raise InvalidRequest.of("filter.start_time", f"must be within {MAX_RANGE.days} days")
        return start, end


def _filter(
    asked: usage_pb2.UsageFilter, start: datetime | None, end: datetime | None
) -> ChargeFilter:
    modality = ""
    if asked.modality:
        modality = modality_pb2.Modality.Name(asked.modality).removeprefix("MODALITY_").lower()
    return ChargeFilter(
        tenant=_tenant(asked.tenant),
        models=tuple(asked.models),
        modality=modality,
        labels=dict(asked.labels),
        settled_from=start,
        settled_before=end,
    )


def _tenant(asked: str) -> str:
    """Whose charges; empty: everybody's. A tenant that is not there looks like any other one."""
    asking = caller.current_caller()
    if not asked or asked == asking.tenant:
        return asking.tenant
    if not asking.admin:
        raise ScopeMissing("what other tenants spend is for admins", metadata={"scope": "admin"})
    return "" if asked == ALL_TENANTS else asked


def _position(token: list[Any] | None) -> ChargePosition | None:
    return None if token is None else ChargePosition(*token)


def _moment(asked: usage_pb2.UsageFilter, name: str) -> datetime | None:
    if not asked.HasField(name):  # type: ignore[arg-type]
        return None
    stamp: Timestamp = getattr(asked, name)
    return stamp.ToDatetime(UTC)


def _total(found: ChargeTotal, dimensions: list[GroupBy]) -> usage_pb2.UsageTotal:
    group = dict(zip(dimensions, found.group, strict=True))
    total = usage_pb2.UsageTotal(
        tenant=group.get(GroupBy.TENANT, ""),
        model=group.get(GroupBy.MODEL, ""),
        label_value=group.get(GroupBy.LABEL, ""),
        day=group.get(GroupBy.DAY, ""),
        price_tier=group.get(GroupBy.TIER, ""),
        price_date=group.get(GroupBy.PRICE_DATE, ""),
        charges=found.charges,
        generations=found.generations,
        settled_usd_nanos=min(found.settled_nanos, LARGEST_NANOS),
        assumed_usd_nanos=min(found.assumed_nanos, LARGEST_NANOS),
        unknown_charges=found.unknown_charges,
        usage=_usage(found.used),
    )
    if GroupBy.MODALITY in group:
        total.modality = responses.MODALITIES[group[GroupBy.MODALITY]]
    return total


def _charge(found: Charge) -> usage_pb2.Charge:
    return usage_pb2.Charge(
        generation_id=found.generation_id,
        attempt=found.ordinal,
        tenant=found.tenant,
        model=found.model,
        modality=responses.MODALITIES[found.modality],
        cost=responses.encode_cost(found.cost),
        usage=_usage(found.used),
        settle_time=responses.to_timestamp(found.settled_at),
        labels=found.labels,
        prediction_id=found.prediction_id,
        price_tier=found.tier,
    )


def _usage(used: UsageTotals) -> cost_pb2.Usage:
    """What was used, or the sum of it; what the contract has no room for is left out."""
    return cost_pb2.Usage(
        input_tokens=_count(used.input_tokens),
        output_tokens=_count(used.output_tokens),
        input_characters=_count(used.input_characters),
        images=_count(used.images, _MOST_IMAGES),
        media_duration=_duration(used.media_nanos),
        run_duration=_duration(used.run_nanos),
    )


def _count(number: int | None, most: int = _MOST) -> int | None:
    return None if number is None or number > most else number


def _duration(nanos: int | None) -> Duration | None:
    if nanos is None or nanos > _LONGEST_DURATION * 10**9:
        return None
    return Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
