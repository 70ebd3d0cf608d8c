"""Dependencies of the wiring: what more than one part of a server is built with."""

from dataclasses import dataclass

from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.live import LiveCatalog
from mediagate_server.config import Configuration, Settings
from mediagate_server.config.tenant_limits import TenantLimits
from mediagate_server.context import caller
from mediagate_server.network.egress_policy import EgressPolicy
from mediagate_server.observability.metrics import OTHER_MODEL
from mediagate_server.runtime.clock import Clock
from mediagate_server.runtime.fair_scheduler import FairScheduler
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.wiring.live_settings import LiveSettings
from mediagate_server.workers.worker_pool import WorkerPool


@dataclass(frozen=True, slots=True)
class ServerDeps:
    """Dependencies that the parts of one server share.

    `clock` is the time that generations, outputs and links live by. `scheduler` shares the event
    loop's time among tenants; `egress_policy` tells where webhooks may be sent.
    """

    configuration: Configuration
    clock: Clock
    limits: TenantLimits
    live_settings: LiveSettings
    catalog: LiveCatalog
    scheduler: FairScheduler
    egress_policy: EgressPolicy
    store: SqliteStore
    workers: WorkerPool

    @property
    def settings(self) -> Settings:
        """The settings in force: a reload replaces them."""
        return self.configuration.current

    def caller_catalog(self) -> Catalog:
        """The catalog as it counts for the tenant that calls."""
        allowed = self.limits.allow_assumed_prices(caller.current_caller().tenant)
        return self.catalog.for_assumed_prices(assumed=allowed)

    def model_label(self, model: str) -> str:
        """The metrics' label of a model: its slug, if the catalog has it."""
        return model if self.catalog.current().find_by_slug(model) else OTHER_MODEL
