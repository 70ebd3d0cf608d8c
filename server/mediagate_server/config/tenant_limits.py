"""Limits of each tenant: its own, else the defaults of the settings."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from mediagate_server.config.reload import Configuration
from mediagate_server.config.settings import Settings
from mediagate_server.config.tenants import Budget, StoreInputs, Tenant

Value = TypeVar("Value")


class TenantLimits:
    """Limits by tenant, for any thread; a reload takes effect at once."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._index: tuple[Sequence[Tenant], Mapping[str, Tenant]] = ((), {})

    def tenants(self) -> Sequence[Tenant]:
        """The configured tenants."""
        return self._settings.tenants

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
        default = self._settings.requests_per_minute
        return self._own_or(default, tenant, lambda own: own.requests_per_minute)

    def max_in_flight(self, tenant: str) -> int:
        """Concurrent generations of a tenant; 0: no limit."""
        return self._own_or(self._settings.max_in_flight, tenant, lambda own: own.max_in_flight)

    def allows_next_when_unconfirmed(self, tenant: str) -> bool:
        """Whether a tenant may risk a double charge while a create is unconfirmed."""
        default = self._settings.allow_next_when_unconfirmed
        return self._own_or(default, tenant, lambda own: own.allow_next_when_unconfirmed)

    def store_inputs(self, tenant: str) -> StoreInputs:
        """How much of a tenant's requests is stored."""
        return self._own_or(self._settings.store_inputs, tenant, lambda own: own.store_inputs)

    def allow_assumed_prices(self, tenant: str) -> bool:
        """Whether assumed prices may limit and settle a tenant's calls."""
        default = self._settings.allow_assumed_prices
        return self._own_or(default, tenant, lambda own: own.allow_assumed_prices)

    def budgets(self, tenant: str) -> Sequence[Budget]:
        """Budgets of a tenant."""
        own = self.tenant(tenant)
        return own.budgets if own else ()

    def webhook_url(self, tenant: str) -> str:
        """Webhook URL of a tenant's budget events; empty: none."""
        own = self.tenant(tenant)
        return own.webhook_url if own else ""

    @property
    def _settings(self) -> Settings:
        return self._configuration.current

    def _own_or(
        self, default: Value, tenant: str, setting: Callable[[Tenant], Value | None]
    ) -> Value:
        """A tenant's own setting; the default where it has none."""
        own = self.tenant(tenant)
        value = None if own is None else setting(own)
        return default if value is None else value
