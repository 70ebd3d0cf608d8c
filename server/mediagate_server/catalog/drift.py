"""Where the catalog and what upstream publishes of a model have come apart.

A finding either breaks something (what we send would be refused, or what comes back be misread) or
is news: the model can do more than the catalog knows, or a price wants to be read again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Final

from mediagate_server.catalog.ages import age_in_days, is_old, is_priced
from mediagate_server.catalog.inputs import InputSpec, InputType
from mediagate_server.catalog.model import Model, ModelKind
from mediagate_server.catalog.openapi import PublishedInput
from mediagate_server.catalog.published import Runnable

_MOST_VALUES: Final = 8
_JSON_TYPES: Final = {
    InputType.STRING: "string",
    InputType.URI: "string",
    InputType.INTEGER: "integer",
    InputType.NUMBER: "number",
    InputType.BOOLEAN: "boolean",
}


class Kind(StrEnum):
    """What kind of thing was found."""

    GONE = "gone"
    """Upstream does not have the model, or not the version that is pinned."""
    BACK = "back"
    """The catalog calls it retired, and upstream has it."""
    UNREAD = "unread"
    """Upstream could not be asked."""
    OFFICE = "office"
    """It is addressed as another kind of model than it is."""
    VERSION = "version"
    """There is a newer version than the one that is pinned."""
    SCHEMA = "schema"
    """Its inputs or its output are others."""
    PRICE = "price"
    """Its price is unknown or old."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found. `breaks`: it will go wrong as it stands."""

    model: str
    kind: Kind
    what: str
    breaks: bool = False


def compared(model: Model, published: Runnable) -> Iterator[Finding]:
    """The catalog's model against its own version upstream."""
    if model.kind is ModelKind.OFFICIAL and not published.is_official:
        yield Finding(model.slug, Kind.OFFICE, "is no official model: needs a version", breaks=True)
    inputs = published.schema.inputs
    if published.schema.input_schema is None or not inputs:
        yield Finding(model.slug, Kind.SCHEMA, "publishes no schema to compare with")
        return
    if published.schema.streams_text is not model.streams:
        word = "does not stream" if model.streams else "streams"
        yield Finding(model.slug, Kind.SCHEMA, f"its output {word}", breaks=True)
    for name, spec in model.inputs.items():
        there = inputs.get(name)
        if there is None:
            yield Finding(model.slug, Kind.SCHEMA, f"has no input {name!r} any more", breaks=True)
        else:
            for what, breaks in _input_changes(spec, there):
                yield Finding(model.slug, Kind.SCHEMA, f"{name}: {what}", breaks=breaks)
    for name, there in inputs.items():
        if name not in model.inputs:
            words = f"has another input, {name!r}"
            words += ", which it needs" if there.required else ""
            yield Finding(model.slug, Kind.SCHEMA, words, breaks=there.required)


def newer_version(model: Model, newest: Runnable) -> Iterator[Finding]:
    """That the pinned version of a community model is not the newest."""
    if newest.target not in (model.target, model.slug):
        yield Finding(model.slug, Kind.VERSION, f"has a newer version, {newest.target}")


def of_price(model: Model, today: date) -> Iterator[Finding]:
    """That its price is unknown, assumed, or was read long ago."""
    if not is_priced(model):
        yield Finding(model.slug, Kind.PRICE, "has no known price")
    elif model.price.assumed:
        yield Finding(model.slug, Kind.PRICE, f"its price is {model.price.source}")
    elif is_old(model, today):
        as_of = model.price.as_of
        coarse = "" if as_of.count("-") == 2 else "up to "
        what = f"its price is of {as_of}, {coarse}{age_in_days(as_of, today)} days old"
        yield Finding(model.slug, Kind.PRICE, what)


def _input_changes(spec: InputSpec, there: PublishedInput) -> Iterator[tuple[str, bool]]:
    """What is different, and whether that breaks what we send."""
    expected = _JSON_TYPES.get(spec.type, "array")
    if there.types and expected not in there.types:
        whole = expected == "integer" and "number" in there.types
        if not whole:
            yield f"is of type {' or '.join(sorted(there.types))}, not {expected}", True
            return
    yield from _value_changes(spec, there)
    yield from _bound_changes(spec, there)
    if there.required and not spec.required:
        yield "is required now", True
    if spec.default is not None and there.default not in (None, spec.default):
        yield f"is {there.default!r} by default, not {spec.default!r}", False


def _value_changes(spec: InputSpec, there: PublishedInput) -> Iterator[tuple[str, bool]]:
    if not there.values:
        return
    lost = [value for value in spec.enum if value not in there.values]
    if lost:
        yield f"does not take {_listed(lost)} any more", True
    more = [value for value in there.values if value not in spec.enum]
    if more and spec.enum:
        yield f"takes {_listed(more)} too", False
    elif more and not spec.pattern:
        yield f"takes only {_listed(more)}", True


def _bound_changes(spec: InputSpec, there: PublishedInput) -> Iterator[tuple[str, bool]]:
    if there.least is not None and (spec.min is None or spec.min < there.least):
        yield f"is at least {there.least:g} now", not spec.enum
    elif spec.min is not None and there.least is not None and there.least < spec.min:
        yield f"may be as little as {there.least:g}", False
    if there.most is not None and (spec.max is None or spec.max > there.most):
        yield f"is at most {there.most:g} now", not spec.enum
    elif spec.max is not None and there.most is not None and there.most > spec.max:
        yield f"may be as much as {there.most:g}", False


def _listed(values: list[Any]) -> str:
    shown = ", ".join(repr(value) for value in values[:_MOST_VALUES])
    more = len(values) - _MOST_VALUES
    return f"{shown} and {more} more" if more > 0 else shown
