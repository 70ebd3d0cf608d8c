"""One model of the catalog: what it is called, what it takes, what it gives and what it costs.

Facts only, read from a model file. That they fit together is checked once, when they are read.
"""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from mediagate_server.catalog.consistency import inconsistencies
from mediagate_server.catalog.estimate import Expectation
from mediagate_server.catalog.inputs import STRICT, InputSpec, InputType
from mediagate_server.catalog.openapi import ANY_STEP, Path
from mediagate_server.catalog.plan import OutputShape
from mediagate_server.catalog.prices import PriceSchedule
from mediagate_server.catalog.request import Modality
from mediagate_server.catalog.rules.chat import Chat
from mediagate_server.catalog.rules.dimensions import Dimensions
from mediagate_server.catalog.rules.durations import Frames, Length
from mediagate_server.catalog.rules.guard import Guard
from mediagate_server.catalog.rules.media import Adapter, Media
from mediagate_server.catalog.rules.plain import Choice, Count, Direct, Fixed, Joined, Scaled
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

    @property
    def rank(self) -> int:
        """Their order: the higher, the dearer."""
        return tuple(Quality).index(self)


class ModelStatus(StrEnum):
    """Whether a model can be called."""

    LIVE = "live"
    RETIRED = "retired"


class SafetyClass(StrEnum):
    """What stands between a prompt and what must not be made, with the inputs that we send.

    OPEN: nothing. ALIGNED: the model's own training to refuse. SCREENED: something beside the
    model looks at the prompt or the output, the vendor's service or a checker around the model.
    """

    OPEN = "open"
    ALIGNED = "aligned"
    SCREENED = "screened"

    @property
    def rank(self) -> int:
        """Their order: the more stands between, the higher."""
        return _SAFETY.index(self)


_SAFETY = tuple(SafetyClass)


class Schema(StrEnum):
    """How its inputs came to be known: from its own schema, or partly from its like."""

    VERIFIED = "verified"
    PARTLY = "partly"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Model:
    """A model as the catalog knows it.

    `version` is the pinned one of a community model. `makes` are the audio kinds it is for; empty:
    any. `usual_run` and `max_run` are how long a run takes as a rule, from the create to the end,
    and the longest to reckon with, in seconds. `defaults` are inputs that are always sent unless a
    parameter sets them: those whose own default costs money or bounds it. `output_format` names
    the input that chooses the file format. `fallbacks` are the slugs that take over, in order.

    `private`: it is the operator's own, and stands on a machine that is billed while it waits, too.

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
    inputs_from: Schema
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
    chat: Chat | None = None
    guard: Guard | None = None
    map: Mapping[str, AnyRule] = field(default_factory=dict)
    defaults: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    expects: Mapping[str, Expectation] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if found := "; ".join(inconsistencies(self)):
            raise ValueError(found)

    @property
    def target(self) -> str:
        """What a create is addressed to."""
        if self.kind is ModelKind.COMMUNITY:
            return f"{self.slug}:{self.version}"
        return f"deployments/{self.slug}" if self.kind is ModelKind.DEPLOYMENT else self.slug

    @property
    def bills_idle_time(self) -> bool:
        """Whether its machine is billed while it starts and waits, too."""
        return self.kind is ModelKind.DEPLOYMENT or self.private

    @property
    def link_paths(self) -> frozenset[Path]:
        """Where its inputs hold links and never any other text."""
        return frozenset(
            (name,) if spec.type is InputType.URI else (name, ANY_STEP)
            for name, spec in self.inputs.items()
            if spec.type in (InputType.URI, InputType.URIS)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All that it answers to."""
        return (self.slug, *self.aliases, *self.stands_in_for)

    @property
    def pinned_names(self) -> tuple[str, ...]:
        """How Replicate's own clients name the version that is run here."""
        return (f"{self.slug}:{self.version}", self.version) if self.version else ()

    @property
    def max_output_tokens(self) -> int | None:
        """The most tokens it writes, where its own input says so."""
        rule = self.map.get("max_output_tokens")
        limit = self.inputs[rule.targets[0]].max if rule else None
        return None if limit is None else int(limit)
