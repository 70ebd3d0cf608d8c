"""Model catalog: look up a model by name, and plan a request for it.

Everything in a request that can be rejected by itself is rejected here, before anything is spent.
"""

import random
from collections.abc import Iterable, Mapping
from decimal import Decimal
from difflib import SequenceMatcher
from types import MappingProxyType
from typing import Any, Final

from mediagate_server.catalog.models.model import Model, ModelKind, ModelStatus, OutputShape
from mediagate_server.catalog.models.model_file import ModelFileError
from mediagate_server.catalog.planning import fallback, model_choice
from mediagate_server.catalog.planning.fallback import FallbackChain
from mediagate_server.catalog.planning.model_parameters import MODEL_PARAMETERS_PATH
from mediagate_server.catalog.planning.plan import Plan, Substitution
from mediagate_server.catalog.planning.translation import (
    GenerateSeed,
    format_shape,
    requested_format,
    translate_request,
)
from mediagate_server.catalog.pricing import prices
from mediagate_server.catalog.pricing.cost_estimate import (
    EstimatedRun,
    UnpricedInput,
    check_cost_limit,
    estimate_cost,
)
from mediagate_server.catalog.pricing.prices import assumed_price
from mediagate_server.catalog.request import Fallback, FallbackMode, Modality, ModelRequest
from mediagate_server.errors import (
    InvalidRequest,
    MaxCostExceeded,
    MediagateError,
    ModelNotFound,
    ModelRetired,
    PriceUnknown,
    suggestion_text,
)
from mediagate_server.structs import replace

_MAX_NAMES: Final = 3
_MIN_SIMILARITY: Final = 0.6
_MAX_CHARACTERS: Final = 128
"""Characters that are compared: matching takes quadratic time."""
DEFAULT_MODELS: Mapping[Modality, str] = MappingProxyType(
    {
        Modality.TEXT: "llama-70b",
        Modality.IMAGE: "flux-pro",
        Modality.VIDEO: "minimax-video",
        Modality.AUDIO: "musicgen",
        Modality.SAFETY: "llama-guard",
    }
)
"""Default model of each modality, where neither the request nor the operator names one."""
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


def _random_seed() -> int:
    return random.SystemRandom().randrange(1, 2**31)


class Catalog:
    """The models that can be called. Immutable: a changed configuration builds a new catalog."""

    def __init__(
        self,
        models: Iterable[Model],
        *,
        defaults: Mapping[Modality, str] = DEFAULT_MODELS,
        generate_seed: GenerateSeed = _random_seed,
        optimize_cost: bool = False,
        use_fallback: bool = True,
        assume_unknown_usd: Decimal | None = None,
        allow_weaker_safety: bool = False,
    ) -> None:
        """Raises ModelFileError where two models share a name or a default model is missing.

        `generate_seed` gives the seed of a run whose request sets none. `allow_weaker_safety`:
        callers may weaken the models' safety checks. `assume_unknown_usd`: cost of a run in dollars
        where it is unknown; None: unknown. `use_fallback`: the fallback of a request that sets
        none. `optimize_cost`: where a quality and no model is named, choose the cheapest of that
        quality also before the default model; and where no model is named and the cost is limited,
        choose the cheapest of the default model's quality where that model itself may cost more.
        """
        priced = map(_with_dedicated_price, models)
        self._models = tuple(sorted(priced, key=lambda model: (model.modality, model.slug)))
        self._by_name: dict[str, Model] = {}
        for model in self._models:
            for name in map(str.casefold, (*model.names, *model.pinned_names)):
                if name in self._by_name:
                    raise ModelFileError(f"two models are called {name!r}")
                self._by_name[name] = model
        self._substitute_reasons = {
            name.casefold(): reason
            for model in self._models
            for name, reason in model.stands_in_for.items()
        }
        """Names that a model has only as a substitute, each with the reason."""
        self._check_references(defaults)
        self._defaults = dict(defaults)
        self._generate_seed = generate_seed
        self._optimize_cost = optimize_cost
        self._use_fallback = use_fallback
        self.assume_unknown_usd = assume_unknown_usd
        self.allow_weaker_safety = allow_weaker_safety

    def find(self, modality: Modality, name: str) -> Model:
        """Model by any of its names, case-insensitive; empty: the default. Raises ModelNotFound."""
        if not name and modality not in self._defaults:
            raise InvalidRequest.of("options.model", "must be set: there is no default model")
        requested = name or self._defaults[modality]
        model = self.find_by_name(requested)
        if model is None or model.modality is not modality:
            raise ModelNotFound(
                requested,
                modality.value,
                nearest=self.nearest_names(requested, modality) or self.nearest_names(requested),
                makes="" if model is None else model.modality.value,
            )
        return model

    def models(self, modality: Modality | None = None) -> tuple[Model, ...]:
        """All models, or those of one modality, ordered by modality and slug."""
        return tuple(
            model for model in self._models if modality is None or model.modality is modality
        )

    def find_by_name(self, name: str) -> Model | None:
        """Model of any modality by any of its names; None where there is none."""
        # Programs write `owner/name:` before they know a version: an empty version is none.
        return self._by_name.get(name.casefold().removesuffix(":"))

    def nearest_names(
        self, name: str, modality: Modality | None = None, *, slugs: bool = False
    ) -> tuple[str, ...]:
        """Similar names of callable models, one per model, the best first; `slugs`: no aliases."""
        live = [model for model in self.models(modality) if model.status is ModelStatus.LIVE]
        return nearest_names(
            name, [(model.slug,) if slugs else (model.slug, *model.aliases) for model in live]
        )

    def is_official(self, slug: str) -> bool | None:
        """Whether a model is one of Replicate's official ones; None: it is not in the catalog."""
        model = self.find_by_slug(slug.casefold())
        return model.kind is ModelKind.OFFICIAL if model else None

    def find_by_slug(self, slug: str) -> Model | None:
        """Model by slug alone: an alias may stand for another vendor's model."""
        model = self.find_by_name(slug)
        return model if model and model.slug == slug else None

    def plan(self, request: ModelRequest) -> Plan:
        """Plan a run of the named model, of the default, or of a chosen one.

        Raises what `find` and `translate_request` raise; ModelRetired where the model is retired
        and no substitute is allowed; NoMatchingModel where one was to be chosen; and, where the
        request sets `max_cost_nanos`, PriceUnknown and MaxCostExceeded. A response format has been
        validated before: see schema_validation.
        """
        if request.model:
            return self._plan_named_model(request)
        if not request.quality:
            return self._plan_default_model(request)
        if request.model_parameters:
            message = "must be set where options.model_parameters is: they are one model's inputs"
            raise InvalidRequest.of("options.model", message)
        if not self._optimize_cost and self._default_quality(request) == request.quality:
            return self._plan_default_model(request)
        return model_choice.choose_model(self._models, request, self._plan_model)

    def _plan_default_model(self, request: ModelRequest) -> Plan:
        """The default model's plan; where it does not support the request, that of the cheapest of
        its quality that does, and is no weaker in safety class.

        Model-specific parameters are the default's: with them no other model is chosen. A model
        over the cost limit is only replaced where cost is optimised.
        """
        default = self.find(request.modality, "")
        try:
            model_choice.check_audio_kind(default, request)
            return self._plan_named_model(request)
        except MediagateError as error:
            about_cost = isinstance(error, MaxCostExceeded | PriceUnknown)
            if request.model_parameters or (about_cost and not self._optimize_cost):
                raise
            quality_request = replace(request, quality=default.quality.value)
            equally_safe = (
                each for each in self._models if each.safety.rank >= default.safety.rank
            )
            return model_choice.choose_substitute(
                equally_safe, quality_request, self._plan_model, error
            )

    def plan_with_fallbacks(self, request: ModelRequest) -> FallbackChain:
        """The plan of `plan`, and the plans of the models that are its fallbacks.

        Raises what `plan` raises, and InvalidRequest where the request lists an unknown model.
        """
        first = self.plan(request)
        first_model = self.find(request.modality, first.slug)
        links = self._fallback_models(request, first_model)
        each = fallback.share_cost_limit(request, first.runs)
        return fallback.build_fallback_chain(
            first, first_model, links, each, lambda _, link: self._plan_named_model(link)
        )

    def _default_quality(self, request: ModelRequest) -> str:
        """The quality of the modality's default model."""
        return self.find(request.modality, "").quality.value

    def _fallback_models(
        self, request: ModelRequest, first_model: Model
    ) -> list[tuple[str, Model]]:
        """The fallback models of a request, by name. A retired model has a chain of its own."""
        default_mode = FallbackMode.CATALOG if self._use_fallback else FallbackMode.NONE
        fallback_choice = request.fallback or Fallback(default_mode)
        if fallback_choice.mode is FallbackMode.NONE:
            return []
        if fallback_choice.mode is FallbackMode.LIST:
            return [
                (name, self._find_listed_model(request.modality, index, name))
                for index, name in enumerate(fallback_choice.models)
            ]
        requested = self.find_by_name(request.model) or first_model
        if requested.status is ModelStatus.LIVE:
            requested = first_model
        return [(slug, self.find(request.modality, slug)) for slug in requested.fallbacks]

    def _find_listed_model(self, modality: Modality, index: int, name: str) -> Model:
        model = self.find_by_name(name)
        if model is None or model.modality is not modality:
            suggestion = suggestion_text(self.nearest_names(name, modality))
            message = f"no {modality.value} model of this name{suggestion}"
            raise InvalidRequest.of(f"options.fallback.models[{index}]", message)
        return model

    def _plan_named_model(self, request: ModelRequest) -> Plan:
        model, substitution = self._resolve_model(request)
        plan = self._plan_model(model, request)
        return replace(plan, substitution=substitution) if substitution else plan

    def _plan_model(self, model: Model, request: ModelRequest) -> Plan:
        form = requested_format(request.parameters)
        translation = translate_request(
            model, request, self._generate_seed, allow_weaker_safety=self.allow_weaker_safety
        )
        run = EstimatedRun(translation.input, model.inputs, model.max_run)
        try:
            priced = estimate_cost(model.price, model.expects, run, translation.output_count)
        except UnpricedInput as error:
            raise InvalidRequest.of(
                _request_field(model, request, error.name), error.message
            ) from None
        price, estimate = assumed_price(*priced, self.assume_unknown_usd)
        check_cost_limit(model.slug, estimate.times(translation.runs), request.max_cost_nanos)
        seed_input, largest_seed = _seed_input(model)
        return Plan(
            modality=model.modality,
            requested_model=request.model,
            slug=model.slug,
            target=model.target,
            input=translation.input,
            report=translation.report,
            seed=translation.seed,
            streams=model.streams and form is None,
            output=format_shape(form) if form else _output_shape(model, run),
            output_count=translation.output_count,
            price=price,
            estimate=estimate,
            max_run=model.max_run,
            usual_run=model.usual_run,
            runs=translation.runs,
            seed_input=seed_input,
            largest_seed=largest_seed,
            token_limit=_token_limit(model, translation.input),
        )

    def _resolve_model(self, request: ModelRequest) -> tuple[Model, Substitution | None]:
        """The model that will run, and the substitution if it is not the requested one."""
        model = self.find(request.modality, request.model)
        name = request.model or self._defaults[request.modality]
        reason = self._substitute_reasons.get(name.casefold(), "")
        if not reason and model.status is ModelStatus.LIVE:
            return model, None
        metadata = {"model": name, "successor": model.successor if not reason else model.slug}
        if request.strict or not request.allow_substitutes or not metadata["successor"]:
            raise ModelRetired(f"{name} is not on Replicate", metadata=metadata)
        if reason:
            return model, Substitution(name, reason)
        successor = self._by_name[model.successor.casefold()]
        return successor, Substitution(name, f"{model.slug} is gone from Replicate")

    def _check_references(self, defaults: Mapping[Modality, str]) -> None:
        for modality, name in defaults.items():
            model = self.find_by_name(name)
            if model is None or model.modality is not modality:
                key = f"defaults.{modality.value}_model"
                raise ModelFileError(f"{key}: no {modality.value} model is called {name!r}")
        for model in self._models:
            for slug in model.fallbacks:
                self._check_reference(model, "fallbacks", slug)
            if model.successor:
                self._check_reference(model, "successor", model.successor)
                successor = self._by_name[model.successor.casefold()]
                if successor.quality.rank > model.quality.rank:
                    where = f"{model.slug}: successor: {model.successor!r}"
                    raise ModelFileError(f"{where} is of a dearer quality")

    def _check_reference(self, model: Model, field: str, slug: str) -> None:
        """A fallback or successor must exist, be of the same modality, live, and no less safe."""
        other = self.find_by_name(slug)
        where = f"{model.slug}: {field}: {slug!r}"
        if other is None or other.slug != slug:
            raise ModelFileError(f"{where} is no slug of a model")
        if other.modality is not model.modality:
            raise ModelFileError(f"{where} is a model of {other.modality.value}")
        if other.status is not ModelStatus.LIVE:
            raise ModelFileError(f"{where} is retired")
        if other.safety.rank < model.safety.rank:
            raise ModelFileError(f"{where} is weaker in safety class")


def _with_dedicated_price(model: Model) -> Model:
    if not model.bills_idle_time:
        return model
    price = prices.dedicated_price(model.price)
    return model if price is model.price else replace(model, price=price)


def _token_limit(model: Model, model_input: Mapping[str, Any]) -> int | None:
    """The maximum of output tokens of this run: what is sent, else the model's own default."""
    rule = model.map.get("max_output_tokens")
    if rule is None:
        return None
    name = rule.targets[0]
    limit = model_input.get(name, model.inputs[name].default)
    return limit if isinstance(limit, int) else None


def _seed_input(model: Model) -> tuple[str, int | None]:
    """The input that takes the seed, and its maximum; empty where the model takes none."""
    rule = model.map.get("seed")
    if rule is None:
        return "", None
    target = rule.targets[0]
    largest = model.inputs[target].max
    return target, None if largest is None else int(largest)


def _request_field(model: Model, request: ModelRequest, name: str) -> str:
    """The request's field that is sent as the input of this name."""
    if name in request.model_parameters:
        return f"{MODEL_PARAMETERS_PATH}.{name}"
    fields = (field for field, rule in model.map.items() if name in rule.targets)
    return next((field for field in fields if field in request.parameters), "options.model")


def _output_shape(model: Model, run: EstimatedRun) -> OutputShape:
    """The output's shape, with the media type of the file format that will be sent."""
    shape = model.output
    if not model.output_format:
        return shape
    word = str(run.value(model.output_format))
    media_type = _MEDIA_TYPES.get(word.partition("_")[0], shape.media_type)
    return OutputShape(shape.kind, shape.field, media_type)


def nearest_names(requested: str, models: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """At most three most similar names, the most similar first; `models` are names, by model."""
    # The version is not compared.
    text = requested.casefold().partition(":")[0][:_MAX_CHARACTERS]
    best = (max((_similarity(text, name.casefold()), name) for name in names) for names in models)
    ranked = sorted(
        (match for match in best if match[0] >= _MIN_SIMILARITY), key=lambda match: -match[0]
    )
    return tuple(name for _, name in ranked[:_MAX_NAMES])


def _similarity(requested: str, name: str) -> float:
    """Similarity, 0 to 1. The same name of another owner counts more than another of the same."""
    requested_model, model = requested.rpartition("/")[2], name.rpartition("/")[2]
    return max(_ratio(requested, name), 0.95 * _ratio(requested_model, model))


def _ratio(requested: str, name: str) -> float:
    matcher = SequenceMatcher(None, requested, name, autojunk=False)
    # Upper bounds first: they are cheap, and reject most names.
    if matcher.real_quick_ratio() < _MIN_SIMILARITY or matcher.quick_ratio() < _MIN_SIMILARITY:
        return 0.0
    return matcher.ratio()
