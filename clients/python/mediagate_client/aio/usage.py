"""What was used and what it cost, on asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Unpack

import grpc.aio

from mediagate.v1.usage_pb2 import (
    Charge,
    GetReconciliationResponse,
    UsageDimension,
    UsageTotal,
)
from mediagate.v1.usage_pb2_grpc import UsageServiceStub
from mediagate_client.aio.calls import AsyncCalls
from mediagate_client.aio.media import AsyncMediaCalls
from mediagate_client.arguments import DimensionName, Moment, UsageArguments
from mediagate_client.channel import Channels
from mediagate_client.list_requests import charges_request, reconciliation_request, usage_request


class AsyncUsageCalls(AsyncMediaCalls):
    """The part of a client that asks what was spent."""

    def __init__(
        self, calls: AsyncCalls, channels: Channels[grpc.aio.Channel], read_timeout: float
    ) -> None:
        """Use the channels; `read_timeout` bounds, in seconds, the calls that only look."""
        super().__init__(calls, channels, read_timeout)
        self._usage = UsageServiceStub(channels.control)

    async def get_usage(
        self,
        *,
        group_by: Sequence[DimensionName | UsageDimension.ValueType] = (),
        label_key: str = "",
        **filters: Unpack[UsageArguments],
    ) -> tuple[UsageTotal, ...]:
        """Return totals of what was settled, the dearest group first; by default, of this month.

        `label_key` is the label that the group "label" goes by.
        """
        request = usage_request(filters, group_by, label_key)
        method = self._usage.GetUsage
        response = await self._calls.read(method, request, self._read_timeout)
        return tuple(response.totals)

    async def list_charges(
        self, *, page_size: int = 0, **filters: Unpack[UsageArguments]
    ) -> AsyncIterator[Charge]:
        """Iterate over all charges that the filters match, the last settled first."""
        request = charges_request(filters, page_size)
        while True:
            page = await self._calls.read(self._usage.ListCharges, request, self._read_timeout)
            for charge in page.charges:
                yield charge
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def get_reconciliation(
        self, *, start_time: Moment | None = None, page_size: int = 1000
    ) -> GetReconciliationResponse:
        """Return what was found where the ledger was compared with Replicate's own list.

        Of the last day, unless told; needs an admin's key.
        """
        request = reconciliation_request(start_time, page_size)
        method = self._usage.GetReconciliation
        return await self._calls.read(method, request, self._read_timeout)
