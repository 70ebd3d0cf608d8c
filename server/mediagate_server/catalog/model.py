"""One model of the catalog: what it is called, what it takes, what it gives and what it costs.

Facts only, read from a model file. That they fit together is checked once, when they are read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import field
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from mediagate_server.catalog.estimate import Expectation
from mediagate_server.catalog.fields import FIELDS
from mediagate_server.catalog.harms import HARMS
from mediagate_server.catalog.inputs import STRICT, InputSpec
from mediagate_server.catalog.plan import OutputKind, OutputShape
from mediagate_server.catalog.prices import PriceSchedule
from mediagate_server.catalog.request import Modality
from mediagate_server.catalog.rules.chat import FIELDS as CHAT_FIELDS
from mediagate_server.catalog.rules.chat import Chat, ChatStyle
from mediagate_server.catalog.rules.dimensions import Dimensions
from mediagate_server.catalog.rules.durations import Frames, Length
from mediagate_server.catalog.rules.guard import FIELDS as GUARD_FIELDS
from mediagate_server.catalog.rules.guard import Guard
from mediagate_server.catalog.rules.media import Adapter, Media
from mediagate_server.catalog.rules.plain import Choice, Count, Direct, Fixed, Joined, Scaled
from mediagate_server.catalog.rules.rule import Rule
from mediagate_server.catalog.rules.shapes import Frame, Pixels, Ratio

AnyRule = Annotated[
    Direct
    | Choice
    | Fixed
    | Scaled
    | Joined
    | Count
    | Ratio
    | Pixels
    | Frame
    | Dimensions
    | Length
    | Frames
    | Media
    | Adapter,
    Field(discriminator="rule"),
]


class ModelKind(StrEnum):
    """How Replicate offers a model, which decides how it is addressed."""

    OFFICIAL = "official"
    COMMUNITY = "community"
    DEPLOYMENT = "deployment"


class Quality(StrEnum):
    """A model's price class."""

    ECONOMY = "economy"
    STANDARD = "standard"
    PREMIUM = "premium"


class ModelStatus(StrEnum):
    """Whether a model can be called."""

    LIVE = "live"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Model:
    """A model as the catalog knows it.

    `version` is the pinned one of a community model. `makes` are the audio kinds it is for; empty:
    any. `max_run` is the longest run to reckon with, in seconds. `defaults` are inputs that are
    always sent unless a parameter sets them: those whose own default costs money or bounds it.
    `output_format` names the input that chooses the file format. `fallbacks` are the slugs that
    take over, in order.
    """

    slug: Annotated[str, Field(pattern=r"^[a-z0-9._-]+/[a-z0-9._-]+$")]
    modality: Modality
    vendor: str
    kind: ModelKind
    quality: Quality
    output: OutputShape
    inputs: Mapping[str, InputSpec]
    price: PriceSchedule
    max_run: Annotated[int, Field(ge=5, le=1800)]
    aliases: tuple[str, ...] = ()
    version: str = ""
    status: ModelStatus = ModelStatus.LIVE
    successor: str = ""
    fallbacks: tuple[str, ...] = ()
    streams: bool = False
    makes: tuple[str, ...] = ()
    output_format: str = ""
    chat: Chat | None = None
    guard: Guard | None = None
    map: Mapping[str, AnyRule] = field(default_factory=dict)
    defaults: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    expects: Mapping[str, Expectation] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if found := "; ".join(_inconsistencies(self)):
            raise ValueError(found)

    @property
    def target(self) -> str:
        """What a create is addressed to."""
        if self.kind is ModelKind.COMMUNITY:
            return f"{self.slug}:{self.version}"
        return f"deployments/{self.slug}" if self.kind is ModelKind.DEPLOYMENT else self.slug

    @property
    def max_output_tokens(self) -> int | None:
        """The most tokens it writes, where its own input says so."""
        rule = self.map.get("max_output_tokens")
        limit = self.inputs[rule.targets[0]].max if rule else None
        return None if limit is None else int(limit)


def _inconsistencies(model: Model) -> Iterator[str]:
    """Everything that the data says about inputs or fields which do not exist or do not fit."""
    if (model.kind is ModelKind.COMMUNITY) != bool(model.version):
        yield "version: belongs to community models, and they need one"
    if (model.chat is None) == (model.modality is Modality.TEXT):
        yield "chat: belongs to text models, and they need one"
    if model.output_format and model.output_format not in model.inputs:
        yield f"output_format: there is no input {model.output_format!r}"
    for name, value in model.defaults.items():
        yield from _misfit(model, "defaults", name, value)
    for metric, expectation in model.expects.items():
        name = getattr(expectation, "input", "")
        if name and name not in model.inputs:
            yield f"expects.{metric}: there is no input {name!r}"
    yield from _chat_problems(model)
    yield from _guard_problems(model)
    for name, rule in model.map.items():
        kind = FIELDS[model.modality].get(name)
        taken = (model.chat and name in CHAT_FIELDS) or (model.guard and name in GUARD_FIELDS)
        if kind is None or taken or name == "kind":
            yield f"map.{name}: not a parameter that can be mapped"
        elif kind not in rule.takes:
            yield f"map.{name}: a rule {rule.rule!r} cannot carry it"
        yield from _rule_problems(model, name, rule)


def _rule_problems(model: Model, name: str, rule: Rule) -> Iterator[str]:
    for target, value in rule.also.items():
        yield from _misfit(model, f"map.{name}.also", target, value)
    missing = [target for target in rule.mentions if target not in model.inputs]
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
    elif model.modality is Modality.SAFETY and model.output.field not in HARMS:
        yield f"output.field: no list of categories is called {model.output.field!r}"
    if model.guard:
        for name in model.guard.targets:
            if name not in model.inputs:
                yield f"guard: there is no input {name!r}"


def _misfit(model: Model, where: str, name: str, value: Any) -> Iterator[str]:
    if name not in model.inputs:
        yield f"{where}: there is no input {name!r}"
    elif reason := model.inputs[name].problem(value):
        yield f"{where}.{name}: {value!r} {reason}"
