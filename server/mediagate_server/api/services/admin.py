"""gRPC servicer of AdminService: tenants, budget overrides, and webhooks to callers.

The authentication interceptor lets only admins call it. API keys come from the configuration.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from mediagate.v1 import admin_pb2, admin_pb2_grpc
from mediagate_server.api import page_tokens
from mediagate_server.api.billable_call_handler import RpcContext
from mediagate_server.api.page_tokens import PageTokens
from mediagate_server.config.tenant_limits import TenantLimits
from mediagate_server.config.tenants import Tenant
from mediagate_server.errors import InvalidRequest, NotImplementedYet, ResourceNotFound
from mediagate_server.rpc_context import LOCAL_CALLER
from mediagate_server.store.budgets import BudgetUsage
from mediagate_server.store.outbox import Outbox, OutboxEvent
from mediagate_server.store.port import Store
from mediagate_server.webhooks.dispatcher import WebhookDispatcher
from mediagate_server.webhooks.http_client import format_secret

SECRET_OVERLAP: Final = timedelta(hours=24)
"""For how long webhooks are signed with the secret before, too."""


class WebhookAdminMethods:
    """Webhook rpcs of AdminService: secrets, undelivered webhooks, redelivery.

    `tenants` are all that there are.
    """

    def __init__(
        self,
        outbox: Outbox,
        dispatcher: WebhookDispatcher,
        tokens: PageTokens,
        tenants: Callable[[], Sequence[Tenant]],
        now: Callable[[], datetime],
    ) -> None:
        self._outbox = outbox
        self._dispatcher = dispatcher
        self._tokens = tokens
        self._tenants = tenants
        self._now = now

    async def RotateWebhookSecret(
        self, request: admin_pb2.RotateWebhookSecretRequest, context: RpcContext
    ) -> admin_pb2.RotateWebhookSecretResponse:
        """Generates a new secret, which is returned this once."""
        self._check_tenant(request.tenant)
        now = self._now()
        rotated = await self._outbox.rotate_secret(request.tenant, now, now + SECRET_OVERLAP)
        return admin_pb2.RotateWebhookSecretResponse(
            secret=format_secret(rotated.secret),
            previous_expire_time=_encode_time(rotated.previous_expires_at),
        )

    async def ListUndeliveredWebhooks(
        self, request: admin_pb2.ListUndeliveredWebhooksRequest, context: RpcContext
    ) -> admin_pb2.ListUndeliveredWebhooksResponse:
        """Lists webhooks whose delivery was given up, oldest first."""
        if request.tenant:
            self._check_tenant(request.tenant)
        tokens = self._tokens.for_request("ListUndeliveredWebhooks", request.tenant)
        size = page_tokens.effective_page_size(request.page_size)
        after = tokens.read(request.page_token)
        start = after[0] if after else ""
        events = await self._outbox.list_undelivered(request.tenant, size + 1, start)
        page = events[:size]
        return admin_pb2.ListUndeliveredWebhooksResponse(
            webhooks=[_encode_undelivered(event) for event in page],
            next_page_token=tokens.write([page[-1].id]) if events[size:] else "",
        )

    async def RedeliverWebhook(
        self, request: admin_pb2.RedeliverWebhookRequest, context: RpcContext
    ) -> admin_pb2.RedeliverWebhookResponse:
        """Makes one more delivery attempt of an undelivered webhook, now."""
        event = await self._dispatcher.redeliver(request.id)
        return admin_pb2.RedeliverWebhookResponse(webhook=_encode_undelivered(event))

    def _check_tenant(self, name: str) -> None:
        if all(tenant.id != name for tenant in self._tenants()):
            raise ResourceNotFound("tenant", "tenant")


def _encode_undelivered(event: OutboxEvent) -> admin_pb2.UndeliveredWebhook:
    return admin_pb2.UndeliveredWebhook(
        id=event.id,
        tenant=event.tenant,
        generation_id=event.generation_id,
        host=event.host,
        tries=event.tries,
        http_status=event.http_status,
        last_try_time=_encode_time(event.last_tried_at),
    )


def _encode_time(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


_PERIODS: Final = {
    "day": admin_pb2.Budget.PERIOD_DAY,
    "month": admin_pb2.Budget.PERIOD_MONTH,
    "total": admin_pb2.Budget.PERIOD_TOTAL,
}
_LOCAL_TENANTS: Final = (Tenant(id=LOCAL_CALLER.tenant, keys=()),)
"""The tenants where none is configured."""


class AdminService(WebhookAdminMethods, admin_pb2_grpc.AdminServiceServicer):
    """AdminService: tenants and budgets; its rpcs about keys are not implemented yet.

    `now` is the time in UTC.
    """

    def __init__(
        self,
        store: Store,
        limits: TenantLimits,
        dispatcher: WebhookDispatcher,
        tokens: PageTokens,
        now: Callable[[], datetime],
    ) -> None:
        super().__init__(
            store.outbox, dispatcher, tokens, lambda: limits.tenants() or _LOCAL_TENANTS, now
        )
        self._store = store
        self._limits = limits
        self._now = now

    async def ListTenants(
        self, request: admin_pb2.ListTenantsRequest, context: RpcContext
    ) -> admin_pb2.ListTenantsResponse:
        """Lists tenants by their ids."""
        tokens = self._tokens.for_request("ListTenants")
        size = page_tokens.effective_page_size(request.page_size)
        after = tokens.read(request.page_token)
        start = after[0] if after else ""
        tenants = sorted(
            (tenant for tenant in self._limits.tenants() or _LOCAL_TENANTS if tenant.id > start),
            key=lambda tenant: tenant.id,
        )
        page = tenants[:size]
        return admin_pb2.ListTenantsResponse(
            tenants=[await self._encode_tenant(tenant) for tenant in page],
            next_page_token=tokens.write([page[-1].id]) if tenants[size:] else "",
        )

    async def GetTenant(
        self, request: admin_pb2.GetTenantRequest, context: RpcContext
    ) -> admin_pb2.GetTenantResponse:
        """Returns one tenant with its limits and budgets."""
        return admin_pb2.GetTenantResponse(
            tenant=await self._encode_tenant(self._tenant(request.id, "id"))
        )

    async def OverrideBudget(
        self, request: admin_pb2.OverrideBudgetRequest, context: RpcContext
    ) -> admin_pb2.OverrideBudgetResponse:
        """Overrides the limit of a budget until a time."""
        tenant = self._tenant(request.tenant, "tenant")
        budgets = (budget for budget in tenant.budgets if budget.name == request.budget)
        budget = next(budgets, None)
        if budget is None:
            raise ResourceNotFound("budget", "budget")
        now = self._now()
        expires = request.expire_time.ToDatetime(UTC)
        if expires <= now:
            raise InvalidRequest.of("expire_time", "must be in the future")
        await self._store.override_budget(tenant.id, budget.name, request.limit_usd_nanos, expires)
        (use,) = await self._store.budgets(tenant.id, [budget], now)
        return admin_pb2.OverrideBudgetResponse(budget=_encode_budget(use))

    async def CreateKey(
        self, request: admin_pb2.CreateKeyRequest, context: RpcContext
    ) -> admin_pb2.CreateKeyResponse:
        """Not implemented yet."""
        raise NotImplementedYet("CreateKey")

    async def ListKeys(
        self, request: admin_pb2.ListKeysRequest, context: RpcContext
    ) -> admin_pb2.ListKeysResponse:
        """Not implemented yet."""
        raise NotImplementedYet("ListKeys")

    async def RevokeKey(
        self, request: admin_pb2.RevokeKeyRequest, context: RpcContext
    ) -> admin_pb2.RevokeKeyResponse:
        """Not implemented yet."""
        raise NotImplementedYet("RevokeKey")

    def _tenant(self, name: str, field: str) -> Tenant:
        tenants = self._limits.tenants() or _LOCAL_TENANTS
        tenant = next((tenant for tenant in tenants if tenant.id == name), None)
        if tenant is None:
            raise ResourceNotFound("tenant", field)
        return tenant

    async def _encode_tenant(self, tenant: Tenant) -> admin_pb2.Tenant:
        uses = await self._store.budgets(tenant.id, tenant.budgets, self._now())
        return admin_pb2.Tenant(
            id=tenant.id,
            requests_per_minute=self._limits.requests_per_minute(tenant.id) or None,
            max_in_flight=self._limits.max_in_flight(tenant.id) or None,
            in_flight=await self._store.in_flight(tenant.id),
            budgets=[_encode_budget(use) for use in uses],
        )


def _encode_budget(use: BudgetUsage) -> admin_pb2.Budget:
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
