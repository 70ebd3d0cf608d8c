"""Calls of UsageService, on asyncio: totals, charges, reconciliation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Unpack

from mediagate.v1.usage_pb2 import (
    Charge,
    GetReconciliationResponse,
    UsageDimension,
    UsageTotal,
)
from mediagate_client.aio.media import AsyncMediaCalls
from mediagate_client.arguments import DimensionName, Moment, UsageArguments
from mediagate_client.list_requests import charges_request, reconciliation_request, usage_request


class AsyncUsageCalls(AsyncMediaCalls):
    """Part of the client: usage and costs."""

    async def get_usage(
        self,
        *,
        group_by: Sequence[DimensionName | UsageDimension.ValueType] = (),
        label_key: str = "",
        **filters: Unpack[UsageArguments],
    ) -> tuple[UsageTotal, ...]:
        """Return totals of settled charges, the largest first; by default, of this month.

        `label_key` is the label of the group "label".
        """
        request = usage_request(filters, group_by, label_key)
        method = self._stubs.usage.GetUsage
        response = await self._calls.read(method, request, self._read_timeout)
        return tuple(response.totals)

    async def list_charges(
        self, *, page_size: int = 0, **filters: Unpack[UsageArguments]
    ) -> AsyncIterator[Charge]:
        """Iterate over all charges that the filters match, the latest first."""
        request = charges_request(filters, page_size)
        while True:
            page = await self._calls.read(
                self._stubs.usage.ListCharges, request, self._read_timeout
            )
            for charge in page.charges:
                yield charge
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def get_reconciliation(
        self, *, start_time: Moment | None = None, page_size: int = 1000
    ) -> GetReconciliationResponse:
        """Return discrepancies between the ledger and Replicate's list of predictions.

        By default of the last day; needs an admin's key.
        """
        request = reconciliation_request(start_time, page_size)
        method = self._stubs.usage.GetReconciliation
        return await self._calls.read(method, request, self._read_timeout)
