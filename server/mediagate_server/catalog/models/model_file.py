"""Model files: TOML with models, parsed and validated; an error names file, line, model and field.

A file is a list of `[[model]]` tables. `like` names an earlier model whose table this one inherits:
its own keys win, tables are merged key by key; names, version and price are never inherited. A rule
may be written as the bare name of the input that it sends to, a price in short forms, which are
expanded to tiers:

    price = { as_of = "2026-10-07", source = "price list", per_image = "0.04" }

    [model.price]
    as_of = "2026-10-06"
    source = "model page"
    tiers = [
        { where = { resolution_target = "480p" }, per_video_second = "0.03" },
        { where = { resolution_target = "1080p" }, per_video_second = "0.15" },
    ]

A price without any of this, and without tiers, is unknown. What has no short form is written out as
`rates` and `criteria`, whose fields are those of prices.py.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from mediagate_server.catalog.models.model import Model
from mediagate_server.catalog.pricing.prices import UNKNOWN_PRICE
from mediagate_server.config.file import validation_problems

_MILLION: Final = 1_000_000
_INPUT_TOKENS: Final = ("token_input_count", "input_token_count")
_OUTPUT_TOKENS: Final = ("token_output_count", "output_token_count")
SHORT_RATES: Final[Mapping[str, tuple[tuple[str, ...], int]]] = MappingProxyType(
    {
        "per_million_tokens_read": (_INPUT_TOKENS, _MILLION),
        "per_million_tokens_written": (_OUTPUT_TOKENS, _MILLION),
        "per_thousand_tokens_read": (_INPUT_TOKENS, 1_000),
        "per_thousand_characters": (("character_input_count",), 1_000),
        "per_image": (("image_output_count", "image_count", "output_count"), 1),
        "per_input_megapixel": (("image_input_megapixels",), 1),
        "per_output_megapixel": (("image_output_megapixels",), 1),
        "per_video": (("video_output_count", "output_count"), 1),
        "per_video_second": (("video_output_duration_seconds",), 1),
        "per_audio": (("audio_output_count", "output_count"), 1),
        "per_audio_second": (("audio_output_duration_seconds",), 1),
        "per_run_second": (("predict_time",), 1),
    }
)
"""Short form, the metric's names upstream, newest first, and the number of units of the price.
`output_count` is our own count, where upstream reports none."""
NOT_INHERITED = (
    "slug",
    "aliases",
    "stands_in_for",
    "version",
    "price",
    "status",
    "successor",
    "fallbacks",
    "inputs_from",
)
"""Keys that `like` does not inherit."""
_ADAPTER = TypeAdapter(Model)
_NO_PRICE: Final = {"as_of": "", "source": ""}
_HEADER: Final = re.compile(r"\s*\[\[\s*model\s*\]\]")


class ModelFileError(ValueError):
    """A model file is invalid. The text names the file, the model and the field."""


class ModelFiles:
    """Models of several files, read in order: a later file may add and override.

    Within a file `like` names any earlier model. A table with the slug of an earlier model
    overrides what it sets, and keeps the rest.
    """

    def __init__(self, entries: Mapping[str, "_Entry"] | None = None) -> None:
        self._entries: dict[str, _Entry] = dict(entries or {})

    @classmethod
    def shipped(cls) -> "ModelFiles":
        """The model files of the package."""
        model_files = cls()
        folder = files("mediagate_server.catalog").joinpath("models")
        for name in sorted(entry.name for entry in folder.iterdir()):
            if name.endswith(".toml"):
                model_files.add(name, folder.joinpath(name).read_text(encoding="utf-8"))
        return model_files

    def copy(self) -> "ModelFiles":
        """A copy with the same models."""
        return ModelFiles(self._entries)

    def without_assumed_prices(self) -> "ModelFiles":
        """A copy in which an assumed price is unknown."""
        entries = {slug: entry.without_assumed_price() for slug, entry in self._entries.items()}
        return ModelFiles(entries)

    def models(self) -> list[Model]:
        """All models, in the order of their first definition."""
        return [entry.model for entry in self._entries.values()]

    def add(self, file: str, text: str) -> None:
        """Parse and add a file, `file` in errors. Raises ModelFileError; then adds nothing."""
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ModelFileError(f"{file}: {error}") from None
        tables = document.pop("model", [])
        if document or not isinstance(tables, list):
            raise ModelFileError(f"{file}: holds nothing but [[model]] tables")
        entries = dict(self._entries)
        added: set[str] = set()
        for position, table in enumerate(tables):
            slug = str(table.get("slug", f"number {position + 1}"))
            location = SourceLocation(file, text, position, slug)
            if slug in added:
                raise ModelFileError(location.error_message("slug", "is in this file twice"))
            added.add(slug)
            complete = _inherit(location, table, entries)
            entries[slug] = _Entry(complete, _model(location, complete))
        self._entries = entries


@dataclass(frozen=True, slots=True)
class _Entry:
    """A model, and its table with everything inherited."""

    table: Mapping[str, Any]
    model: Model

    def without_assumed_price(self) -> "_Entry":
        """The same entry; without a price where that is assumed."""
        if not self.model.price.assumed:
            return self
        return _Entry({**self.table, "price": _NO_PRICE}, replace(self.model, price=UNKNOWN_PRICE))


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """Source location: one `[[model]]` table of a file, by position from 0."""

    file: str
    text: str
    position: int
    slug: str

    def error_message(self, where: str, message: str) -> str:
        """Error message with file, line, model and field."""
        segments = (self.file, self.slug, where, f"{message} (line {self.line(where)})")
        return ": ".join(segment for segment in segments if segment)

    def line(self, where: str) -> int:
        """Line, from 1, of a field of the model: that of the longest prefix of its path that the
        table has, else that of the table.
        """
        lines = self.text.split("\n")
        headers = [number for number, line in enumerate(lines, 1) if _HEADER.match(line)]
        if self.position >= len(headers):
            return 1
        first = headers[self.position]
        end = headers[self.position + 1] if self.position + 1 < len(headers) else len(lines) + 1
        line_number = first
        for name in where.split(".") if where else ():
            key = re.compile(rf"\s*(?:\[model\.)?[\"']?{re.escape(name)}[\"']?\s*(?:=|\]|\.)")
            after = range(line_number, end)
            line_number = next((n for n in after if key.match(lines[n - 1])), line_number)
        return line_number


def _inherit(
    location: SourceLocation, entry: Mapping[str, Any], entries: Mapping[str, _Entry]
) -> dict[str, Any]:
    own_keys = {name: value for name, value in entry.items() if name != "like"}
    like = entry.get("like")
    if like is not None:
        if like not in entries:
            raise ModelFileError(location.error_message("like", f"no model {like!r} before it"))
        inherited = {
            name: value for name, value in entries[like].table.items() if name not in NOT_INHERITED
        }
    elif location.slug in entries:
        inherited = dict(entries[location.slug].table)
    else:
        return own_keys
    merged = {
        # Prices are not merged: tiers of one and a rate of another would be no price.
        name: {**inherited[name], **value}
        if name != "price"
        and isinstance(value, Mapping)
        and isinstance(inherited.get(name), Mapping)
        else value
        for name, value in own_keys.items()
    }
    return {**inherited, **merged}


def _model(location: SourceLocation, entry: Mapping[str, Any]) -> Model:
    rules = entry.get("map", {})
    if not isinstance(rules, Mapping):
        raise ModelFileError(location.error_message("map", "must be a table"))
    expanded = {name: _expand_rule(rule) for name, rule in rules.items()}
    _refuse_floats(location, "price", entry.get("price"))
    try:
        return _ADAPTER.validate_python(
            {**entry, "map": expanded, "price": expand_price(entry.get("price"))}
        )
    except ValidationError as error:
        raise ModelFileError("\n".join(_error_messages(location, error))) from None


def _expand_rule(rule: Any) -> Any:
    return {"rule": "direct", "to": rule} if isinstance(rule, str) else rule


def _refuse_floats(location: SourceLocation, where: str, value: Any) -> None:
    """Reject a price written as a float: it has already been rounded to binary."""
    if isinstance(value, float):
        raise ModelFileError(
            location.error_message(where, 'write it as a string, for example "0.04"')
        )
    if isinstance(value, Mapping):
        for name, item in value.items():
            _refuse_floats(location, f"{where}.{name}", item)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            _refuse_floats(location, f"{where}.{position}", item)


def _error_messages(location: SourceLocation, error: ValidationError) -> Iterable[str]:
    for path, _, message in validation_problems(error):
        yield location.error_message(".".join(path), message)


def expand_price(price: Any) -> Any:
    """Expand a price to its full form. What is not a table is left for validation to reject."""
    if not isinstance(price, Mapping):
        return price
    plain = {name: value for name, value in price.items() if name not in SHORT_RATES}
    rates = _expand_rates(price)
    if rates and "tiers" not in plain:
        return {**plain, "tiers": [{"rates": rates}]}
    tiers = plain.get("tiers", [])
    if isinstance(tiers, list) and not rates:
        return {**plain, "tiers": [_expand_tier(tier) for tier in tiers]}
    return price


def _expand_tier(tier: Any) -> Any:
    if not isinstance(tier, Mapping):
        return tier
    plain = {name: value for name, value in tier.items() if name not in {*SHORT_RATES, "where"}}
    if rates := _expand_rates(tier):
        plain["rates"] = [*rates, *plain.get("rates", [])]
    where = tier.get("where")
    if isinstance(where, Mapping):
        equal = [{"metric": name, "equals": _word(value)} for name, value in where.items()]
        plain["criteria"] = [*equal, *plain.get("criteria", [])]
    elif where is not None:
        plain["where"] = where
    return plain


def _expand_rates(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"metrics": SHORT_RATES[name][0], "usd": usd, "per": SHORT_RATES[name][1]}
        for name, usd in table.items()
        if name in SHORT_RATES
    ]


def _word(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value
