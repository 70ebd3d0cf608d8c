"""Live view of the settings: each value is read at every use, so that a reload counts."""

from mediagate_server.catalog.request import Modality
from mediagate_server.config import Configuration, Settings
from mediagate_server.config.tenant_limits import TenantLimits
from mediagate_server.config.tenants import StoreInputs
from mediagate_server.generations.dependencies import EngineTimeouts
from mediagate_server.generations.recovery.retention import Retention
from mediagate_server.media.module import MediaLimits


class LiveSettings:
    """Settings grouped for the components that read them at each use. Durations in seconds."""

    def __init__(self, configuration: Configuration, limits: TenantLimits) -> None:
        self._configuration = configuration
        self._limits = limits

    def store_inputs(self, tenant: str) -> StoreInputs:
        """How much of a tenant's requests is stored."""
        return self._limits.store_inputs(tenant)

    def retention(self) -> Retention:
        """How long inputs, texts and media are stored."""
        settings = self._configuration.current
        return Retention(settings.inputs_life, settings.text_life, settings.media_life)

    def media_limits(self) -> MediaLimits:
        """Sizes, timeouts and lifetimes of media."""
        settings = self._configuration.current
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
        configured = self._configuration.current.webhook_secrets
        return tuple(secret.get_secret_value() for secret in configured)

    def timeouts(self) -> dict[Modality, float]:
        """Default timeouts of generations, by modality."""
        settings = self._configuration.current
        return {
            Modality.TEXT: settings.text_timeout,
            Modality.IMAGE: settings.image_timeout,
            Modality.VIDEO: settings.video_timeout,
            Modality.AUDIO: settings.audio_timeout,
            Modality.SAFETY: settings.safety_timeout,
            Modality.RAW: settings.run_timeout,
        }


def engine_timeouts(settings: Settings) -> EngineTimeouts:
    """Timeouts of the generation engine. Read once, when a server starts: no reload changes any of
    it.
    """
    return EngineTimeouts(
        post_timeout=settings.upstream_create_timeout,
        absent_margin=settings.absent_margin,
        api_error_margin=settings.api_error_margin,
        sweep=settings.sweep_seconds,
        first_sweep=min(1.0, settings.sweep_seconds),
        reconcile=settings.reconcile_seconds,
    )
