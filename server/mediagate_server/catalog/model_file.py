"""Reads models from TOML: what is in a file, checked, becomes Models or one clear error.

A file is a list of `[[model]]` tables. `like` names an earlier model whose tables this one starts
from: its own keys win, tables are merged key by key; names, version and price are never taken
over. A rule may be written as the bare name of the input it sends to, a price in short (see
price_file.py).
"""

import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mediagate_server.catalog import price_file
from mediagate_server.catalog.model import Model

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


class ModelFileError(ValueError):
    """A model file is wrong. The text names the file, the model and the field."""


def shipped() -> list[Model]:
    """The models that come with the server."""
    folder = files("mediagate_server.catalog").joinpath("models")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return [
        model
        for name in names
        for model in read(name, folder.joinpath(name).read_text(encoding="utf-8"))
    ]


def read(file: str, text: str) -> list[Model]:
    """The models of one file. `file` is only for errors; raises ModelFileError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelFileError(f"{file}: {error}") from None
    entries = document.pop("model", [])
    if document or not isinstance(entries, list):
        raise ModelFileError(f"{file}: holds nothing but [[model]] tables")
    known: dict[str, Mapping[str, Any]] = {}
    models = []
    for position, entry in enumerate(entries, start=1):
        slug = str(entry.get("slug", f"number {position}"))
        complete = _with_likeness(file, slug, entry, known)
        known[slug] = complete
        models.append(_model(file, slug, complete))
    return models


def _with_likeness(
    file: str, slug: str, entry: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    own = {name: value for name, value in entry.items() if name != "like"}
    like = entry.get("like")
    if like is None:
        return own
    if like not in known:
        raise ModelFileError(f"{file}: {slug}: like: no model {like!r} before it in this file")
    start = {name: value for name, value in known[like].items() if name not in OWN}
    merged = {
        name: {**start[name], **value}
        if isinstance(value, Mapping) and isinstance(start.get(name), Mapping)
        else value
        for name, value in own.items()
    }
    return {**start, **merged}


def _model(file: str, slug: str, entry: Mapping[str, Any]) -> Model:
    rules = entry.get("map", {})
    if not isinstance(rules, Mapping):
        raise ModelFileError(f"{file}: {slug}: map: must be a table")
    spelled = {name: _rule(rule) for name, rule in rules.items()}
    _refuse_floats(file, slug, "price", entry.get("price"))
    try:
        return _ADAPTER.validate_python(
            {**entry, "map": spelled, "price": price_file.spelled(entry.get("price"))}
        )
    except ValidationError as error:
        raise ModelFileError("\n".join(_complaints(file, slug, error))) from None


def _rule(rule: Any) -> Any:
    return {"rule": "direct", "to": rule} if isinstance(rule, str) else rule


def _refuse_floats(file: str, slug: str, where: str, value: Any) -> None:
    """A price written as a number would already have been rounded to binary."""
    if isinstance(value, float):
        raise ModelFileError(f'{file}: {slug}: {where}: write it as a string, for example "0.04"')
    if isinstance(value, Mapping):
        for name, item in value.items():
            _refuse_floats(file, slug, f"{where}.{name}", item)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            _refuse_floats(file, slug, f"{where}.{position}", item)


def _complaints(file: str, slug: str, error: ValidationError) -> Iterable[str]:
    for problem in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in problem["loc"])
        what = problem["msg"].removeprefix("Value error, ")
        yield f"{file}: {slug}: {where}: {what}" if where else f"{file}: {slug}: {what}"
