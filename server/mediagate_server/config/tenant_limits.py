"""Limits of each tenant: its own, else the defaults of the settings."""

from collections.abc import Mapping, Sequence

from mediagate_server.config.reload import Configuration
from mediagate_server.config.tenants import Budget, StoreInputs, Tenant


class TenantLimits:
    """Limits by tenant, for any thread; a reload takes effect at once."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._index: tuple[Sequence[Tenant], Mapping[str, Tenant]] = ((), {})

    def tenants(self) -> Sequence[Tenant]:
        """The configured tenants."""
        return self._configuration.current.tenants

    def tenant(self, name: str) -> Tenant | None:
        """Tenant by id; None where it is not configured (any more)."""
        current = self.tenants()
        indexed, by_id = self._index
        if current is not indexed:
            by_id = {each.id: each for each in current}
            self._index = (current, by_id)
        return by_id.get(name)

    def requests_per_minute(self, tenant: str) -> int:
        """Rpcs per minute of a tenant; 0: no limit."""
        tenant_settings = self.tenant(tenant)
        default = self._configuration.current.requests_per_minute
        return (
            default
            if tenant_settings is None or tenant_settings.requests_per_minute is None
            else tenant_settings.requests_per_minute
        )

    def max_in_flight(self, tenant: str) -> int:
        """Concurrent generations of a tenant; 0: no limit."""
        tenant_settings = self.tenant(tenant)
        default = self._configuration.current.max_in_flight
        return (
            default
            if tenant_settings is None or tenant_settings.max_in_flight is None
            else tenant_settings.max_in_flight
        )

    def allows_next_when_unconfirmed(self, tenant: str) -> bool:
        """Whether a tenant may risk a double charge while a create is unconfirmed."""
        tenant_settings = self.tenant(tenant)
        default = self._configuration.current.allow_next_when_unconfirmed
        if tenant_settings is None or tenant_settings.allow_next_when_unconfirmed is None:
            return default
        return tenant_settings.allow_next_when_unconfirmed

    def store_inputs(self, tenant: str) -> StoreInputs:
        """How much of a tenant's requests is stored."""
        tenant_settings = self.tenant(tenant)
        default = self._configuration.current.store_inputs
        return (
            default
            if tenant_settings is None or tenant_settings.store_inputs is None
            else tenant_settings.store_inputs
        )

    def allow_assumed_prices(self, tenant: str) -> bool:
        """Whether assumed prices may limit and settle a tenant's calls."""
        tenant_settings = self.tenant(tenant)
        if tenant_settings is None or tenant_settings.allow_assumed_prices is None:
            return self._configuration.current.allow_assumed_prices
        return tenant_settings.allow_assumed_prices

    def budgets(self, tenant: str) -> Sequence[Budget]:
        """Budgets of a tenant."""
        tenant_settings = self.tenant(tenant)
        return tenant_settings.budgets if tenant_settings else ()

    def webhook_url(self, tenant: str) -> str:
        """Webhook URL of a tenant's budget events; empty: none."""
        tenant_settings = self.tenant(tenant)
        return tenant_settings.webhook_url if tenant_settings else ""
