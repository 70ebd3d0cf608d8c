"""Reads models from TOML: what is in a file, checked, becomes Models or one clear error.

A file is a list of `[[model]]` tables. `like` names an earlier model whose tables this one starts
from: its own keys win, tables are merged key by key; names, version and price are never taken
over. A rule may be written as the bare name of the input it sends to, a price in short (see
price_file.py).

Where in a model file something stands: for people who have to mend it.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from mediagate_server.catalog.models.model import Model
from mediagate_server.catalog.pricing import price_file
from mediagate_server.catalog.pricing.derived_prices import UNKNOWN_PRICE

_HEADER: Final = re.compile(r"\s*\[\[\s*model\s*\]\]")


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """One `[[model]]` of a file: the one at this position, from 0."""

    file: str
    text: str
    position: int
    slug: str

    def error_message(self, where: str, what: str) -> str:
        """What is wrong, with file, line, model and field."""
        parts = (self.file, self.slug, where, f"{what} (line {self.line(where)})")
        return ": ".join(part for part in parts if part)

    def line(self, where: str) -> int:
        """The line, from 1, of a field of the model: that of the longest part of its path that the
        entry writes itself, else that of the entry.
        """
        lines = self.text.split("\n")
        headers = [number for number, line in enumerate(lines, 1) if _HEADER.match(line)]
        if self.position >= len(headers):
            return 1
        begin = headers[self.position]
        end = headers[self.position + 1] if self.position + 1 < len(headers) else len(lines) + 1
        found = begin
        for name in where.split(".") if where else ():
            key = re.compile(rf"\s*(?:\[model\.)?[\"']?{re.escape(name)}[\"']?\s*(?:=|\]|\.)")
            after = range(found, end)
            found = next((n for n in after if key.match(lines[n - 1])), found)
        return found


OWN = (
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
"""What `like` does not take over."""
_ADAPTER = TypeAdapter(Model)
_NO_PRICE: Final = {"as_of": "", "source": ""}


class ModelFileError(ValueError):
    """A model file is wrong. The text names the file, the model and the field."""


class ModelFiles:
    """Models as their files write them, file after file: a later one may add and override.

    Within a file `like` names any model that is there already. An entry of the slug of one that is
    there is laid over it, all of it but what the entry says itself.
    """

    def __init__(self, entries: Mapping[str, "_Entry"] | None = None) -> None:
        self._entries: dict[str, _Entry] = dict(entries or {})

    @classmethod
    def shipped(cls) -> "ModelFiles":
        """The models that come with the server."""
        shelf = cls()
        folder = files("mediagate_server.catalog").joinpath("models")
        for name in sorted(entry.name for entry in folder.iterdir()):
            if name.endswith(".toml"):
                shelf.add(name, folder.joinpath(name).read_text(encoding="utf-8"))
        return shelf

    def copy(self) -> "ModelFiles":
        """Another one with the same models."""
        return ModelFiles(self._entries)

    def without_assumed_prices(self) -> "ModelFiles":
        """Another one in which a price that is assumed is not known."""
        entries = {slug: entry.without_assumed_price() for slug, entry in self._entries.items()}
        return ModelFiles(entries)

    def models(self) -> list[Model]:
        """All of them, in the order they were first named."""
        return [entry.model for entry in self._entries.values()]

    def add(self, file: str, text: str) -> None:
        """Read a file. `file` is only for errors; raises ModelFileError, and has added nothing."""
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ModelFileError(f"{file}: {error}") from None
        written = document.pop("model", [])
        if document or not isinstance(written, list):
            raise ModelFileError(f"{file}: holds nothing but [[model]] tables")
        entries = dict(self._entries)
        added: set[str] = set()
        for position, own in enumerate(written):
            slug = str(own.get("slug", f"number {position + 1}"))
            place = SourceLocation(file, text, position, slug)
            if slug in added:
                raise ModelFileError(place.error_message("slug", "is in this file twice"))
            added.add(slug)
            complete = _complete(place, own, entries)
            entries[slug] = _Entry(complete, _model(place, complete))
        self._entries = entries


@dataclass(frozen=True, slots=True)
class _Entry:
    """A model, and its table with everything that it took over."""

    table: Mapping[str, Any]
    model: Model

    def without_assumed_price(self) -> "_Entry":
        """The same where its price is no assumption; else without a price."""
        if not self.model.price.assumed:
            return self
        return _Entry({**self.table, "price": _NO_PRICE}, replace(self.model, price=UNKNOWN_PRICE))


def load_shipped_models(*, assumed: bool = True) -> list[Model]:
    """The models that come with the server; not `assumed`: without prices that are."""
    shelf = ModelFiles.shipped()
    return (shelf if assumed else shelf.without_assumed_prices()).models()


def read_models(file: str, text: str) -> list[Model]:
    """The models of one file. `file` is only for errors; raises ModelFileError."""
    shelf = ModelFiles()
    shelf.add(file, text)
    return shelf.models()


def _complete(
    place: SourceLocation, entry: Mapping[str, Any], known: Mapping[str, _Entry]
) -> dict[str, Any]:
    own = {name: value for name, value in entry.items() if name != "like"}
    like = entry.get("like")
    if like is not None:
        if like not in known:
            raise ModelFileError(place.error_message("like", f"no model {like!r} before it"))
        start = {name: value for name, value in known[like].table.items() if name not in OWN}
    elif place.slug in known:
        start = dict(known[place.slug].table)
    else:
        return own
    merged = {
        # A price is one thing: tiers of the one and a rate of the other would be nobody's.
        name: {**start[name], **value}
        if name != "price" and isinstance(value, Mapping) and isinstance(start.get(name), Mapping)
        else value
        for name, value in own.items()
    }
    return {**start, **merged}


def _model(place: SourceLocation, entry: Mapping[str, Any]) -> Model:
    rules = entry.get("map", {})
    if not isinstance(rules, Mapping):
        raise ModelFileError(place.error_message("map", "must be a table"))
    spelled = {name: _rule(rule) for name, rule in rules.items()}
    _refuse_floats(place, "price", entry.get("price"))
    try:
        return _ADAPTER.validate_python(
            {**entry, "map": spelled, "price": price_file.expand_price(entry.get("price"))}
        )
    except ValidationError as error:
        raise ModelFileError("\n".join(_complaints(place, error))) from None


def _rule(rule: Any) -> Any:
    return {"rule": "direct", "to": rule} if isinstance(rule, str) else rule


def _refuse_floats(place: SourceLocation, where: str, value: Any) -> None:
    """A price written as a number would already have been rounded to binary."""
    if isinstance(value, float):
        raise ModelFileError(place.error_message(where, 'write it as a string, for example "0.04"'))
    if isinstance(value, Mapping):
        for name, item in value.items():
            _refuse_floats(place, f"{where}.{name}", item)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            _refuse_floats(place, f"{where}.{position}", item)


def _complaints(place: SourceLocation, error: ValidationError) -> Iterable[str]:
    for problem in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in problem["loc"])
        yield place.error_message(where, problem["msg"].removeprefix("Value error, "))
