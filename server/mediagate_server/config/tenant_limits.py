"""What each tenant may do now: its own limits, else those for all."""

from collections.abc import Mapping, Sequence

from mediagate_server.config.reload import Configuration
from mediagate_server.config.tenants import Budget, StoreInputs, Tenant


class TenantLimits:
    """Asked each time, by any thread; a reload counts at once."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._index: tuple[Sequence[Tenant], Mapping[str, Tenant]] = ((), {})

    def tenants(self) -> Sequence[Tenant]:
        """Those that are configured."""
        return self._configuration.current.tenants

    def tenant(self, name: str) -> Tenant | None:
        """The tenant of this id; None where it is not configured (any more)."""
        current = self.tenants()
        indexed, by_id = self._index
        if current is not indexed:
            by_id = {each.id: each for each in current}
            self._index = (current, by_id)
        return by_id.get(name)

    def requests_per_minute(self, tenant: str) -> int:
        """Rpcs that a tenant may send; 0: no limit."""
        own = self.tenant(tenant)
        usual = self._configuration.current.requests_per_minute
        return usual if own is None or own.requests_per_minute is None else own.requests_per_minute

    def max_in_flight(self, tenant: str) -> int:
        """Generations that a tenant may run at once; 0: no limit."""
        own = self.tenant(tenant)
        usual = self._configuration.current.max_in_flight
        return usual if own is None or own.max_in_flight is None else own.max_in_flight

    def allows_next_when_unconfirmed(self, tenant: str) -> bool:
        """Whether a tenant may risk paying twice where it is in doubt what was taken."""
        own = self.tenant(tenant)
        usual = self._configuration.current.allow_next_when_unconfirmed
        if own is None or own.allow_next_when_unconfirmed is None:
            return usual
        return own.allow_next_when_unconfirmed

    def store_inputs(self, tenant: str) -> StoreInputs:
        """How much of a tenant's requests is stored."""
        own = self.tenant(tenant)
        usual = self._configuration.current.store_inputs
        return usual if own is None or own.store_inputs is None else own.store_inputs

    def allow_assumed_prices(self, tenant: str) -> bool:
        """Whether a tenant's calls may be bounded and settled by prices that are assumed."""
        own = self.tenant(tenant)
        if own is None or own.allow_assumed_prices is None:
            return self._configuration.current.allow_assumed_prices
        return own.allow_assumed_prices

    def budgets(self, tenant: str) -> Sequence[Budget]:
        """What bounds a tenant's spending."""
        own = self.tenant(tenant)
        return own.budgets if own else ()

    def webhook_url(self, tenant: str) -> str:
        """Where a tenant is told of its budgets; empty: nowhere."""
        own = self.tenant(tenant)
        return own.webhook_url if own else ""
