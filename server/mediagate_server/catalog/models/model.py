"""Model definition: names, inputs, parameter rules, output shape, price and estimators of a model.

Plain data, read from a model file. Its consistency is checked once, when it is constructed.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import field
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from mediagate_server.catalog.models.safety_categories import SAFETY_CATEGORIES
from mediagate_server.catalog.parameters.contract_fields import FIELDS
from mediagate_server.catalog.parameters.image_size import (
    AspectRatio,
    Dimensions,
    PixelSize,
    VideoSize,
)
from mediagate_server.catalog.parameters.media_inputs import LoraRule, MediaRule
from mediagate_server.catalog.parameters.prompt import (
    CHAT_FIELDS,
    SAFETY_FIELDS,
    ChatInputs,
    ChatStyle,
    SafetyPrompt,
)
from mediagate_server.catalog.parameters.rule import ParameterRule
from mediagate_server.catalog.parameters.scalar import (
    DirectValue,
    Duration,
    EnumValue,
    FixedValue,
    FrameCount,
    JoinedValue,
    OutputCount,
    ScaledValue,
)
from mediagate_server.catalog.pricing.cost_estimate import CostEstimator, input_names
from mediagate_server.catalog.pricing.prices import AS_OF, PriceSchedule
from mediagate_server.catalog.request import Modality
from mediagate_server.catalog.schemas.input_spec import STRICT, InputSpec, InputType
from mediagate_server.catalog.schemas.openapi import ANY_STEP, OutputPath


class OutputKind(StrEnum):
    """Kind of a model's `output`, which decides how it is parsed."""

    TEXT_CHUNKS = "text_chunks"
    TEXT = "text"
    MEDIA = "media"
    MEDIA_LIST = "media_list"
    MEDIA_FIELD = "media_field"
    VERDICT = "verdict"
    JSON_TEXT = "json_text"
    RAW = "raw"
    RAW_TEXT = "raw_text"


@dataclasses.dataclass(frozen=True, slots=True)
class OutputShape:
    """Shape of an output.

    `field` names the key of the medium in an object, or the taxonomy of a verdict (see
    `safety_categories.py`). As JSON it holds, of a JSON text, the schema to validate it by; of a
    raw output, the paths of its links (see `openapi.py`).

    `media_type` is the expected one; the file may be of another.
    """

    # For pydantic, which reads it from model files: unknown keys are errors.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    kind: OutputKind
    field: str = ""
    media_type: str = ""


_UNMAPPABLE_FIELDS = frozenset({*CHAT_FIELDS, *SAFETY_FIELDS})
"""Parameters that `chat` and `guard` map together."""
AnyRule = Annotated[
    DirectValue
    | EnumValue
    | FixedValue
    | ScaledValue
    | JoinedValue
    | OutputCount
    | AspectRatio
    | PixelSize
    | VideoSize
    | Dimensions
    | Duration
    | FrameCount
    | MediaRule
    | LoraRule,
    Field(discriminator="rule"),
]


class ModelKind(StrEnum):
    """Kind of a model on Replicate, which decides how it is addressed."""

    OFFICIAL = "official"
    COMMUNITY = "community"
    DEPLOYMENT = "deployment"


class Quality(StrEnum):
    """Price class of a model."""

    ECONOMY = "economy"
    STANDARD = "standard"
    PREMIUM = "premium"

    @property
    def rank(self) -> int:
        """Position in the order of prices: the higher, the more expensive."""
        return tuple(Quality).index(self)


class ModelStatus(StrEnum):
    """Whether a model can be called."""

    LIVE = "live"
    RETIRED = "retired"


class SafetyClass(StrEnum):
    """Safety class: what checks prompts and outputs, with the inputs that we send.

    OPEN: nothing. ALIGNED: the model's own training to refuse. SCREENED: a separate check of the
    prompt or the output, by the vendor's service or a checker around the model.
    """

    OPEN = "open"
    ALIGNED = "aligned"
    SCREENED = "screened"

    @property
    def rank(self) -> int:
        """Position in the order of safety: the higher, the stricter."""
        return _SAFETY.index(self)


_SAFETY = tuple(SafetyClass)


class SchemaSource(StrEnum):
    """Source of the input specification: the model's own schema, or partly that of similar ones."""

    VERIFIED = "verified"
    PARTLY = "partly"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Model:
    """A model of the catalog.

    `version` is the pinned one of a community model. `makes` are the kinds of audio that it
    outputs; empty: any. `usual_run` and `max_run` are the usual and the longest run time in
    seconds, from the create to the end. `defaults` are inputs that are always sent unless a
    parameter sets them: those whose own default costs money or bounds it. `output_format` names the
    input that chooses the file format. `fallbacks` are the slugs of its fallback models, in order.

    `private`: the operator's own model, on hardware that is also billed while idle.

    `aliases` are other names of this very model. `stands_in_for` are names of models that are not
    on Replicate, each with the reason why this one is run instead.
    """

    slug: Annotated[str, Field(pattern=r"^[a-z0-9._-]+/[a-z0-9._-]+$")]
    modality: Modality
    vendor: str
    kind: ModelKind
    quality: Quality
    output: OutputShape
    inputs: Mapping[str, InputSpec]
    price: PriceSchedule
    safety: SafetyClass
    inputs_from: SchemaSource
    usual_run: Annotated[int, Field(ge=1, le=1800)]
    max_run: Annotated[int, Field(ge=5, le=1800)]
    aliases: tuple[str, ...] = ()
    stands_in_for: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    private: bool = False
    status: ModelStatus = ModelStatus.LIVE
    successor: str = ""
    fallbacks: tuple[str, ...] = ()
    streams: bool = False
    makes: tuple[str, ...] = ()
    output_format: str = ""
    chat: ChatInputs | None = None
    guard: SafetyPrompt | None = None
    map: Mapping[str, AnyRule] = field(default_factory=dict)
    defaults: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    expects: Mapping[str, CostEstimator] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if problems := "; ".join(find_inconsistencies(self)):
            raise ValueError(problems)

    @property
    def target(self) -> str:
        """The target of a create request."""
        if self.kind is ModelKind.COMMUNITY:
            return f"{self.slug}:{self.version}"
        return f"deployments/{self.slug}" if self.kind is ModelKind.DEPLOYMENT else self.slug

    @property
    def bills_idle_time(self) -> bool:
        """Whether its hardware is also billed while it starts and is idle."""
        return self.kind is ModelKind.DEPLOYMENT or self.private

    @property
    def link_paths(self) -> frozenset[OutputPath]:
        """Paths of the inputs that hold links and never any other text."""
        return frozenset(
            (name,) if spec.type is InputType.URI else (name, ANY_STEP)
            for name, spec in self.inputs.items()
            if spec.type in (InputType.URI, InputType.URIS)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Slug, aliases and names of models that it substitutes."""
        return (self.slug, *self.aliases, *self.stands_in_for)

    @property
    def pinned_names(self) -> tuple[str, ...]:
        """Names of its pinned version, as Replicate's own clients write them."""
        return (f"{self.slug}:{self.version}", self.version) if self.version else ()

    @property
    def max_output_tokens(self) -> int | None:
        """Maximum of output tokens, where its own input has one."""
        rule = self.map.get("max_output_tokens")
        limit = self.inputs[rule.targets[0]].max if rule else None
        return None if limit is None else int(limit)


def find_inconsistencies(model: Model) -> Iterator[str]:
    """Consistency checks: references to inputs or fields that do not exist or do not fit."""
    yield from _kind_problems(model)
    if model.output_format and model.output_format not in model.inputs:
        yield f"output_format: there is no input {model.output_format!r}"
    for name, value in model.defaults.items():
        yield from _value_problem(model, "defaults", name, value)
    for metric, estimator in model.expects.items():
        for name in input_names(estimator):
            if name not in model.inputs:
                yield f"expects.{metric}: there is no input {name!r}"
    yield from _chat_problems(model)
    yield from _guard_problems(model)
    for name, rule in model.map.items():
        kind = FIELDS[model.modality].get(name)
        belongs = (model.chat or model.guard) and name in _UNMAPPABLE_FIELDS
        if kind is None or belongs:
            yield f"map.{name}: not a parameter that can be mapped"
        elif kind not in rule.takes:
            yield f"map.{name}: a rule {rule.rule!r} cannot carry it"
        yield from _rule_problems(model, name, rule)


def _kind_problems(model: Model) -> Iterator[str]:
    if (model.kind.value == "community") != bool(model.version):
        yield "version: belongs to community models, and they need one"
    if (model.chat is None) == (model.modality is Modality.TEXT):
        yield "chat: belongs to text models, and they need one"
    if model.usual_run > model.max_run:
        yield "usual_run: is longer than max_run"
    if model.successor and model.status.value == "live":
        yield "successor: belongs to retired models"
    if model.modality is Modality.AUDIO and not model.makes:
        yield "makes: a model of sounds must say which kinds"
    if model.price.tiers and not (AS_OF.fullmatch(model.price.as_of) and model.price.source):
        yield "price: says of when it is (2026, 2026-11 or 2026-11-24) and where it was read"
    if model.slug in model.fallbacks or len(set(model.fallbacks)) < len(model.fallbacks):
        yield "fallbacks: a chain comes back to a model that it has been at"


def _rule_problems(model: Model, name: str, rule: ParameterRule) -> Iterator[str]:
    for target, value in rule.also.items():
        yield from _value_problem(model, f"map.{name}.also", target, value)
    for word, others in rule.forces.items():
        for target, value in others.items():
            yield from _value_problem(model, f"map.{name}.forces.{word}", target, value)
    missing = [target for target in rule.referenced_inputs if target not in model.inputs]
    yield from (f"map.{name}: there is no input {target!r}" for target in missing)
    if not missing and (problem := rule.problem(model.inputs)):
        yield f"map.{name}: {problem}"


def _chat_problems(model: Model) -> Iterator[str]:
    if model.chat is None:
        return
    for name in model.chat.targets:
        if name not in model.inputs:
            yield f"chat: there is no input {name!r}"
    if model.chat.style is ChatStyle.TURNS and not model.chat.messages:
        yield "chat.messages: the style `turns` needs it"
    if model.chat.style is ChatStyle.LLAMA3 and not model.chat.template:
        yield "chat.template: the style `llama3` needs it"


def _guard_problems(model: Model) -> Iterator[str]:
    if (model.guard is None) == (model.modality is Modality.SAFETY):
        yield "guard: belongs to safety models, and they need one"
    if (model.output.kind is OutputKind.VERDICT) != (model.modality is Modality.SAFETY):
        yield "output.kind: `verdict` is what safety models answer, and nothing else"
    elif model.modality is Modality.SAFETY and model.output.field not in SAFETY_CATEGORIES:
        yield f"output.field: no list of categories is called {model.output.field!r}"
    if model.guard:
        for name in model.guard.targets:
            if name not in model.inputs:
                yield f"guard: there is no input {name!r}"


def _value_problem(model: Model, where: str, name: str, value: Any) -> Iterator[str]:
    if name not in model.inputs:
        yield f"{where}: there is no input {name!r}"
    elif reason := model.inputs[name].problem(value):
        yield f"{where}.{name}: {value!r} {reason}"
