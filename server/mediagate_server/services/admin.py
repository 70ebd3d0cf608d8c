"""AdminService: tenants with their limits and spend, and another budget for a while.

Only admins come here: `auth` sees to it. Keys are the configuration's, and not made here.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from mediagate.v1 import admin_pb2, admin_pb2_grpc
from mediagate_server.callbacks.sender import Sender
from mediagate_server.caller import LOCAL
from mediagate_server.config.limits import TenantLimits
from mediagate_server.config.tenants import Tenant
from mediagate_server.errors import InvalidRequest, NoSuch, NotBuilt
from mediagate_server.services import paging
from mediagate_server.services.paging import PageTokens
from mediagate_server.services.paid import Context
from mediagate_server.services.webhook_admin import WebhookAdmin
from mediagate_server.store.budgets import BudgetUse
from mediagate_server.store.port import Store

_PERIODS: Final = {
    "day": admin_pb2.Budget.PERIOD_DAY,
    "month": admin_pb2.Budget.PERIOD_MONTH,
    "total": admin_pb2.Budget.PERIOD_TOTAL,
}
_ALONE: Final = (Tenant(id=LOCAL.tenant, keys=()),)
"""Whom there is where nobody is configured."""


class AdminService(WebhookAdmin, admin_pb2_grpc.AdminServiceServicer):
    """See admin.proto. Its keys are not built yet; its webhooks are in webhook_admin.py.

    `now` is the time in UTC.
    """

    def __init__(
        self,
        store: Store,
        limits: TenantLimits,
        sender: Sender,
        tokens: PageTokens,
        now: Callable[[], datetime],
    ) -> None:
        super().__init__(store.outbox, sender, tokens, lambda: limits.tenants() or _ALONE, now)
        self._store = store
        self._limits = limits
        self._now = now

    async def ListTenants(
        self, request: admin_pb2.ListTenantsRequest, context: Context
    ) -> admin_pb2.ListTenantsResponse:
        """Lists tenants by their ids."""
        tokens = self._tokens.of_request("ListTenants")
        size = paging.page_size(request.page_size)
        after = tokens.read(request.page_token)
        start = after[0] if after else ""
        behind = sorted(
            (one for one in self._limits.tenants() or _ALONE if one.id > start),
            key=lambda one: one.id,
        )
        page = behind[:size]
        return admin_pb2.ListTenantsResponse(
            tenants=[await self._shown(tenant) for tenant in page],
            next_page_token=tokens.write([page[-1].id]) if behind[size:] else "",
        )

    async def GetTenant(
        self, request: admin_pb2.GetTenantRequest, context: Context
    ) -> admin_pb2.GetTenantResponse:
        """Shows one tenant."""
        return admin_pb2.GetTenantResponse(tenant=await self._shown(self._tenant(request.id, "id")))

    async def OverrideBudget(
        self, request: admin_pb2.OverrideBudgetRequest, context: Context
    ) -> admin_pb2.OverrideBudgetResponse:
        """Puts another limit in the place of a budget's own until a time."""
        tenant = self._tenant(request.tenant, "tenant")
        budget = next((one for one in tenant.budgets if one.name == request.budget), None)
        if budget is None:
            raise NoSuch("budget", "budget")
        now = self._now()
        expires = request.expire_time.ToDatetime(UTC)
        if expires <= now:
            raise InvalidRequest.of("expire_time", "must be in the future")
        await self._store.override_budget(tenant.id, budget.name, request.limit_usd_nanos, expires)
        (use,) = await self._store.budgets(tenant.id, [budget], now)
        return admin_pb2.OverrideBudgetResponse(budget=_shown(use))

    async def CreateKey(
        self, request: admin_pb2.CreateKeyRequest, context: Context
    ) -> admin_pb2.CreateKeyResponse:
        """Not built yet."""
        raise NotBuilt("CreateKey")

    async def ListKeys(
        self, request: admin_pb2.ListKeysRequest, context: Context
    ) -> admin_pb2.ListKeysResponse:
        """Not built yet."""
        raise NotBuilt("ListKeys")

    async def RevokeKey(
        self, request: admin_pb2.RevokeKeyRequest, context: Context
    ) -> admin_pb2.RevokeKeyResponse:
        """Not built yet."""
        raise NotBuilt("RevokeKey")

    def _tenant(self, name: str, field: str) -> Tenant:
        found = next((one for one in self._limits.tenants() or _ALONE if one.id == name), None)
        if found is None:
            raise NoSuch("tenant", field)
        return found

    async def _shown(self, tenant: Tenant) -> admin_pb2.Tenant:
        uses = await self._store.budgets(tenant.id, tenant.budgets, self._now())
        return admin_pb2.Tenant(
            id=tenant.id,
            requests_per_minute=self._limits.requests_per_minute(tenant.id) or None,
            max_in_flight=self._limits.max_in_flight(tenant.id) or None,
            in_flight=await self._store.in_flight(tenant.id),
            budgets=[_shown(use) for use in uses],
        )


def _shown(use: BudgetUse) -> admin_pb2.Budget:
    key, value = use.budget.label or ("", "")
    return admin_pb2.Budget(
        name=use.budget.name,
        period=_PERIODS[use.budget.period],
        label_key=key,
        label_value=value,
        limit_usd_nanos=use.limit,
        spent_usd_nanos=use.spent,
        reserved_usd_nanos=use.held,
        shadow=use.budget.shadow,
    )
