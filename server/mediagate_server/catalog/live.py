"""Catalog of the settings in force: shipped models, the operator's own models, his defaults."""

from collections.abc import Mapping
from functools import cache

from mediagate_server.catalog.catalog import DEFAULT_MODELS, Catalog
from mediagate_server.catalog.models.model_file import ModelFileError, ModelFiles
from mediagate_server.catalog.request import Modality
from mediagate_server.config import ConfigError, Configuration, Settings
from mediagate_server.config.file import read_config_text


@cache
def _shipped() -> ModelFiles:
    """The shipped model files, parsed once: they do not change while the server runs."""
    return ModelFiles.shipped()


def build_catalog(settings: Settings, *, assumed: bool | None = None) -> Catalog:
    """Build the catalog of these settings.

    `assumed`: whether shipped prices may be assumed ones; None: as the settings say. Where the
    operator sets what a run of unknown cost is assumed to cost, that takes precedence. Prices in
    his own files always count.

    Raises ConfigError: a model file cannot be read or is wrong, with its line; two models share a
    name; a default is no model of its modality.
    """
    assumed_prices = settings.allow_assumed_prices if assumed is None else assumed
    model_files = _shipped().copy()
    if not assumed_prices or settings.assume_unknown_usd is not None:
        model_files = model_files.without_assumed_prices()
    try:
        for path in settings.catalog_files:
            model_files.add(str(path), read_config_text(path))
        return Catalog(
            model_files.models(),
            defaults={**DEFAULT_MODELS, **_default_models(settings)},
            optimize_cost=settings.enable_cost_optimization,
            use_fallback=settings.use_fallback,
            assume_unknown_usd=settings.assume_unknown_usd,
            allow_weaker_safety=settings.allow_weaker_safety,
        )
    except ModelFileError as error:
        raise ConfigError(str(error)) from None


class LiveCatalog:
    """The catalog of the settings in force. A reload whose catalog is wrong is rejected."""

    def __init__(self, configuration: Configuration) -> None:
        """Raises ConfigError."""
        self._configuration = configuration
        self._built: tuple[Settings, Mapping[bool, Catalog]] | None = None
        self._current: tuple[Settings, Mapping[bool, Catalog]] | None = None
        configuration.check_with(self._build)

    def current(self) -> Catalog:
        """The catalog in force."""
        return self.for_assumed_prices(assumed=self._configuration.current.allow_assumed_prices)

    def for_assumed_prices(self, *, assumed: bool) -> Catalog:
        """The catalog in force, with or without assumed prices."""
        settings = self._configuration.current
        if self._current is None or self._current[0] is not settings:
            if self._built is None or self._built[0] is not settings:
                self._build(settings)
            self._current = self._built
        if self._current is None:
            raise RuntimeError("the catalog was not made")
        return self._current[1][assumed]

    def _build(self, settings: Settings) -> None:
        """Read the files anew: they may have changed though no setting did."""
        catalogs = {assumed: build_catalog(settings, assumed=assumed) for assumed in (True, False)}
        self._built = (settings, catalogs)


def _default_models(settings: Settings) -> dict[Modality, str]:
    return {
        Modality.TEXT: settings.default_text_model,
        Modality.IMAGE: settings.default_image_model,
        Modality.VIDEO: settings.default_video_model,
        Modality.AUDIO: settings.default_audio_model,
        Modality.SAFETY: settings.default_safety_model,
    }
