"""Model catalog of the sandbox, from `catalog/*.toml`, one `[[model]]` each.

This room knows what models are like, not how a run of one is played.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

VERSION_CREATED_AT = "2025-11-03T09:12:44.271846Z"
"""When the newest version of every model was made."""

Kind = Literal["text", "safety", "transcript", "image", "video", "audio"]
InputType = Literal[
    "string",
    "integer",
    "number",
    "boolean",
    "uri",
    "strings",
    "uris",
    "array",
    "object",
    "secret",
    "union",
]
OutputShape = Literal["stream", "text", "transcript", "uri", "uris", "audio_out", "shapes"]
Sizes = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class InputField:
    """One input of a model's schema."""

    type: InputType
    about: str
    default: Any = None
    required: bool = False
    min: float | None = None
    max: float | None = None
    enum: tuple[Any, ...] = ()
    any_of: tuple[InputType, ...] = ()
    """What a union may be."""
    accept: str | None = None
    """Media types of a file, as `x-cog-accept` has them."""
    pattern: str | None = None
    """A regular expression in Python's words."""
    deprecated: bool = False


@dataclass(frozen=True, slots=True)
class TextFacts:
    """Facts of a language model; its speed is before scaling."""

    limit_input: str
    first_token_seconds: float
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Facts of an image model: size, count and format by its inputs."""

    sizes: Sizes = field(default_factory=dict)
    """What an aspect ratio means in pixels; one that is not here is worked out."""
    count_input: str = "num_outputs"
    pixels_input: str | None = None
    """An input that says width and height in one word, `1024x1024`."""
    area_input: str = "megapixels"
    areas: Mapping[str, float] = field(default_factory=lambda: {"0.25": 0.25})
    """Megapixels that a word of the area input means, where that is not one."""
    free: Mapping[str, str] = field(default_factory=lambda: {"aspect_ratio": "custom"})
    """The values under which width and height count."""
    format: Literal["png", "jpg", "webp"] = "png"
    by_megapixel: bool = False
    """Whether it is billed by the megapixel, in and out."""


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """Facts of a video model: defaults of its output."""

    seconds: float
    fps: int
    resolution: str
    aspect_ratio: str
    resolution_input: str = "resolution"
    resolutions: Mapping[str, str] = field(default_factory=dict)
    """Meaning of the resolution input where it is not already `720p` and the like."""
    sound_input: str | None = None
    """The input that asks for a sound track."""
    always_sound: bool = False
    length_input: str = "duration"
    frames_input: str | None = None
    """An input that gives the length as a number of frames, or a word that begins with one."""
    fps_input: str = "fps"
    pixels_input: str | None = None
    """An input that says width and height in one word, `1280*720`."""
    ratios: Mapping[str, str] = field(default_factory=dict)
    """Meaning of an aspect ratio that is a word."""


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """Facts of an audio model: defaults of its output; rate in hertz."""

    rate: int
    format: Literal["wav", "mp3"]
    seconds: float = 8.0
    channels: int = 1
    speech: bool = False
    """Whether the length is that of the spoken text."""
    longest: float = 600.0
    length_input: str = "duration"
    per_second: int = 1
    """How many of the length input's units make a second."""
    lengths: Mapping[str, float] = field(default_factory=dict)
    """Seconds that a word of the length input means."""
    format_input: str = "output_format"
    count_input: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """One model: inputs, output and usual durations."""

    owner: str
    name: str
    kind: Kind
    official: bool
    version: str
    """64 hex digits."""
    hides_version: bool
    """Whether predictions show `hidden` for it: of official models that have no versions."""
    older_versions: tuple[str, ...]
    """Versions before this one, the newest first: they run as well."""
    about: str
    output: OutputShape
    inputs: Mapping[str, InputField]
    facts: TextFacts | ImageFacts | VideoFacts | AudioFacts | None
    prompt_input: str
    run_seconds: float
    run_seconds_per_second: float
    boot_seconds: float
    hardware: str | None
    metric_inputs: Mapping[str, str]
    """Metrics that repeat an input: metric name to input name."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Metrics of its own that every run reports, however it ends: any JSON."""
    cog_streaming: bool = False
    """Whether it was built to stream by Cog's own events (`x-cog-streaming`)."""

    @property
    def slug(self) -> str:
        """`owner/name`."""
        return f"{self.owner}/{self.name}"

    @property
    def streams(self) -> bool:
        """Whether the model streams tokens."""
        return self.output == "stream"

    @property
    def stream_path(self) -> str | None:
        """Where its predictions' streams lie; None: they have none, as where output is an object.

        Models that do not stream tokens have a stream of their finished outputs.
        """
        match self.output:
            case "stream":
                return "/v1/streams"
            case "text" | "uri" | "uris":
                return "/v1/files"
            case _:
                return None


@dataclass(frozen=True, slots=True)
class UnreleasedModel:
    """A model without a version, as one is before anything was pushed to it: nothing can run."""

    owner: str
    name: str
    about: str


class Catalog:
    """All models by slug and by version, in the order of the files."""

    def __init__(
        self, models: Iterator[Model], unreleased: Mapping[str, UnreleasedModel] | None = None
    ) -> None:
        """Index the models. Raises ValueError if a slug or a version occurs twice."""
        self._by_slug: dict[str, Model] = {}
        self._by_version: dict[str, Model] = {}
        self.unreleased = unreleased or {}
        """Models without a version, by slug."""
        for model in models:
            versions = [model, *_older(model)]
            if model.slug in self._by_slug or any(
                each.version in self._by_version for each in versions
            ):
                raise ValueError(f"{model.slug} is in the sandbox's catalog twice")
            self._by_slug[model.slug] = model
            self._by_version |= {each.version: each for each in versions}

    def __iter__(self) -> Iterator[Model]:
        """All models, in the order of the files."""
        return iter(self._by_slug.values())

    def by_slug(self, slug: str) -> Model | None:
        """The model called `owner/name`, if there is one."""
        return self._by_slug.get(slug)

    def by_version(self, version: str) -> Model | None:
        """The model that has this version id, as of that version, if there is one."""
        return self._by_version.get(version)


@cache
def load_catalog() -> Catalog:
    """Load all files of the catalog, once. Raises ValueError or TypeError for an invalid entry."""
    files = sorted(
        (each for each in resources.files(__package__).joinpath("catalog").iterdir()),
        key=lambda each: each.name,
    )
    tables = [
        tomllib.loads(each.read_text("utf-8")) for each in files if each.name.endswith("toml")
    ]
    unreleased = {
        entry["slug"]: _unreleased_model(entry["slug"], entry["about"])
        for table in tables
        for entry in table.get("unreleased", ())
    }
    models = (_model(entry, table) for table in tables for entry in table["model"])
    return Catalog(models, unreleased)


def _unreleased_model(slug: str, about: str) -> UnreleasedModel:
    owner, _, name = slug.partition("/")
    return UnreleasedModel(owner, name, about)


def _older(model: Model) -> Iterator[Model]:
    """Return the model as of each of its older versions; its schema was the same then."""
    for at, version in enumerate(model.older_versions):
        yield replace(model, version=version, older_versions=model.older_versions[at + 1 :])


def _model(entry: Mapping[str, Any], table: Mapping[str, Any]) -> Model:
    owner, _, name = entry["slug"].partition("/")
    inputs = dict(table["family"][entry["inputs"]]) if "inputs" in entry else {}
    inputs |= entry.get("input", {})
    return Model(
        owner=owner,
        name=name,
        kind=entry["kind"],
        official=entry["official"],
        version=entry.get("version") or _version_of(entry["slug"]),
        hides_version=entry["official"] and "version" not in entry,
        older_versions=_older_versions(entry),
        about=entry["about"],
        output=entry["output"],
        inputs={key: _input(value) for key, value in inputs.items()},
        facts=_facts(entry, table),
        prompt_input=entry.get("prompt_input", "prompt"),
        run_seconds=entry.get("run_seconds", 0.0),
        run_seconds_per_second=entry.get("run_seconds_per_second", 0.0),
        boot_seconds=entry.get("boot_seconds", 0.0),
        hardware=entry.get("hardware"),
        metric_inputs=entry.get("metric_inputs", {}),
        metrics=entry.get("metrics", {}),
        cog_streaming=entry.get("cog_streaming", entry["official"] and entry["output"] == "stream"),
    )


def _input(value: Mapping[str, Any]) -> InputField:
    if value["type"] not in get_args(InputType):
        raise ValueError(f"no such type of input: {value['type']}")
    lists = {name: tuple(value.get(name, ())) for name in ("enum", "any_of")}
    return InputField(**{**value, **lists})


def _version_of(slug: str) -> str:
    """Return a stable fake id: version ids of official models change with every release."""
    return hashlib.sha256(f"mediagate sandbox {slug}".encode()).hexdigest()


def _older_versions(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the named ones; a community model has at least one."""
    named = tuple(entry.get("older_versions", ()))
    return named or (() if entry["official"] else (_version_of(f"{entry['slug']} before"),))


def _facts(
    entry: Mapping[str, Any], table: Mapping[str, Any]
) -> TextFacts | ImageFacts | VideoFacts | AudioFacts | None:
    match entry["kind"]:
        case "text":
            return TextFacts(**entry["text"])
        case "image":
            facts = dict(entry.get("image", {}))
            sizes = table["sizes"][facts.pop("sizes")] if "sizes" in facts else {}
            pixels = {ratio: (width, height) for ratio, (width, height) in sizes.items()}
            return ImageFacts(sizes=pixels, **facts)
        case "video":
            return VideoFacts(**entry["video"])
        case "audio":
            return AudioFacts(**entry["audio"])
        case "safety" | "transcript":
            return None
        case kind:
            raise ValueError(f"{entry['slug']}: no such kind of model: {kind}")
