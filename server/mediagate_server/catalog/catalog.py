"""The catalog: finds a model by its name and turns a request into a Plan.

Everything that can be refused for the request's own sake is refused here, before any spending.
"""

import random
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from mediagate_server.catalog.estimate import Run, foresee
from mediagate_server.catalog.model import Model, ModelStatus
from mediagate_server.catalog.model_file import ModelFileError, shipped
from mediagate_server.catalog.plan import OutputShape, Plan
from mediagate_server.catalog.prices import Estimate
from mediagate_server.catalog.request import Modality, ModelRequest
from mediagate_server.catalog.translation import DrawSeed, translate
from mediagate_server.errors import (
    InvalidRequest,
    MaxCostExceeded,
    ModelNotFound,
    ModelRetired,
    PriceUnknown,
)

DEFAULTS: Mapping[Modality, str] = MappingProxyType(
    {
        Modality.TEXT: "llama-70b",
        Modality.IMAGE: "flux-schnell",
        Modality.VIDEO: "minimax-video",
        Modality.AUDIO: "musicgen",
        Modality.SAFETY: "llama-guard",
    }
)
"""The model of each modality where neither the request nor the operator names one."""

_MEDIA_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
}


def _system_seed() -> int:
    return random.SystemRandom().randrange(1, 2**31)


class Catalog:
    """The models that can be called. Immutable: a changed configuration makes a new one."""

    def __init__(
        self,
        models: Iterable[Model],
        *,
        defaults: Mapping[Modality, str] = DEFAULTS,
        draw_seed: DrawSeed = _system_seed,
    ) -> None:
        """Raises ModelFileError where two models share a name or a default is not there."""
        self._models = tuple(sorted(models, key=lambda model: (model.modality, model.slug)))
        self._by_name: dict[str, Model] = {}
        for model in self._models:
            for name in (model.slug, *model.aliases):
                if name in self._by_name:
                    raise ModelFileError(f"two models are called {name!r}")
                self._by_name[name] = model
        self._check_references(defaults)
        self._defaults = dict(defaults)
        self._draw_seed = draw_seed

    @classmethod
    def load(
        cls,
        *,
        defaults: Mapping[Modality, str] = DEFAULTS,
        draw_seed: DrawSeed = _system_seed,
    ) -> "Catalog":
        """The catalog that comes with the server."""
        return cls(shipped(), defaults={**DEFAULTS, **defaults}, draw_seed=draw_seed)

    def find(self, modality: Modality, name: str) -> Model:
        """By slug or alias; empty: the modality's default. Raises ModelNotFound."""
        if not name and modality not in self._defaults:
            raise InvalidRequest.of("options.model", "must be set: there is no default model")
        wanted = name or self._defaults[modality]
        model = self._by_name.get(wanted)
        if model is None or model.modality is not modality:
            raise ModelNotFound(wanted, modality.value)
        return model

    def models(self, modality: Modality | None = None) -> tuple[Model, ...]:
        """All models, or those of one modality, ordered by modality and slug."""
        return tuple(
            model for model in self._models if modality is None or model.modality is modality
        )

    def named(self, name: str) -> Model | None:
        """By slug or alias, of whatever modality; None where there is none."""
        return self._by_name.get(name)

    def with_slug(self, slug: str) -> Model | None:
        """By slug alone: an alias may stand for another vendor's model."""
        model = self._by_name.get(slug)
        return model if model and model.slug == slug else None

    def plan(self, request: ModelRequest) -> Plan:
        """Decide the run.

        Raises what `find` and `translate` raise; ModelRetired; and, where the request sets
        `max_cost_nanos`, PriceUnknown and MaxCostExceeded.
        """
        model = self.find(request.modality, request.model)
        if model.status is ModelStatus.RETIRED:
            metadata = {"model": model.slug, "successor": model.successor}
            raise ModelRetired(f"{model.slug} is gone from Replicate", metadata=metadata)
        made = translate(model, request, self._draw_seed)
        run = Run(made.input, model.inputs, model.max_run)
        price, estimate = foresee(model.price, model.expects, run, made.output_count)
        check_cost(model.slug, estimate, request.max_cost_nanos)
        return Plan(
            modality=model.modality,
            requested_model=request.model,
            slug=model.slug,
            target=model.target,
            input=made.input,
            report=made.report,
            seed=made.seed,
            streams=model.streams,
            output=_output(model, run),
            output_count=made.output_count,
            price=price,
            estimate=estimate,
            max_run=model.max_run,
        )

    def _check_references(self, defaults: Mapping[Modality, str]) -> None:
        for modality, name in defaults.items():
            model = self._by_name.get(name)
            if model is None or model.modality is not modality:
                raise ModelFileError(f"default: no {modality.value} model is called {name!r}")
        for model in self._models:
            for field, slug in (
                *(("fallbacks", slug) for slug in model.fallbacks),
                *(("successor", slug) for slug in (model.successor,) if slug),
            ):
                other = self._by_name.get(slug)
                if other is None or other.slug != slug or other.modality is not model.modality:
                    raise ModelFileError(f"{model.slug}: {field}: no such model {slug!r}")


def check_cost(slug: str, estimate: Estimate, most: int | None) -> None:
    """Raises PriceUnknown or MaxCostExceeded where a call may not be made for `most`."""
    if most is None:
        return
    if estimate.maximum is None:
        raise PriceUnknown(f"what {slug} may cost is not known", metadata={"model": slug})
    if estimate.maximum > most:
        raise MaxCostExceeded(
            f"a call of {slug} may cost more than max_cost_usd_nanos",
            metadata={
                "model": slug,
                "maximum_usd_nanos": str(estimate.maximum),
                "max_cost_usd_nanos": str(most),
            },
        )


def _output(model: Model, run: Run) -> OutputShape:
    """The output's shape, with the media type of the file format that will be sent."""
    shape = model.output
    word = str(run.value(model.output_format)) if model.output_format else ""
    media_type = _MEDIA_TYPES.get(word.split("_")[0], shape.media_type)
    return OutputShape(shape.kind, shape.field, media_type)
