"""Dependencies of the wiring: what more than one part of a server is built with."""

from dataclasses import dataclass

from mediagate_server import rpc_context
from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.live import LiveCatalog
from mediagate_server.catalog.request import Modality
from mediagate_server.config import Configuration, Settings
from mediagate_server.config.tenant_limits import TenantLimits
from mediagate_server.generations.recovery.retention import Retention
from mediagate_server.media.module import MediaLimits
from mediagate_server.network.egress_policy import EgressPolicy
from mediagate_server.observability.metrics import OTHER_MODEL
from mediagate_server.runtime.clock import Clock
from mediagate_server.runtime.fair_scheduler import FairScheduler
from mediagate_server.store.sqlite import SqliteStore
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
    catalog: LiveCatalog
    scheduler: FairScheduler
    egress_policy: EgressPolicy
    store: SqliteStore
    workers: WorkerPool

    @property
    def settings(self) -> Settings:
        """The settings in force: a reload replaces them.

        Whoever is to see a reload at once gets the method that reads them, not their values.
        """
        return self.configuration.current

    def caller_catalog(self) -> Catalog:
        """The catalog as it counts for the tenant that calls."""
        allowed = self.limits.allow_assumed_prices(rpc_context.current_caller().tenant)
        return self.catalog.for_assumed_prices(assumed=allowed)

    def model_label(self, model: str) -> str:
        """The metrics' label of a model: its slug, if the catalog has it."""
        return model if self.catalog.current().find_by_slug(model) else OTHER_MODEL

    def retention(self) -> Retention:
        """How long inputs, texts and media are stored."""
        settings = self.settings
        return Retention(settings.inputs_life, settings.text_life, settings.media_life)

    def media_limits(self) -> MediaLimits:
        """Sizes, timeouts and lifetimes of media."""
        settings = self.settings
        return MediaLimits(
            settings.output_max_bytes,
            settings.output_timeout,
            settings.output_idle_timeout,
            settings.upload_max_bytes,
            settings.upload_life,
            settings.link_life,
        )

    def webhook_secrets(self) -> tuple[str, ...]:
        """Further secrets that upstream's webhooks may be signed with."""
        configured = self.settings.webhook_secrets
        return tuple(secret.get_secret_value() for secret in configured)

    def timeouts(self) -> dict[Modality, float]:
        """Default timeouts of generations, by modality."""
        settings = self.settings
        return {
            Modality.TEXT: settings.text_timeout,
            Modality.IMAGE: settings.image_timeout,
            Modality.VIDEO: settings.video_timeout,
            Modality.AUDIO: settings.audio_timeout,
            Modality.SAFETY: settings.safety_timeout,
            Modality.RAW: settings.run_timeout,
        }
