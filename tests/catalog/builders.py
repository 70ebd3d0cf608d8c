"""Builders of catalogs and their values for tests."""

from collections.abc import Mapping
from typing import Any

from mediagate_server.catalog.catalog import DEFAULT_MODELS, Catalog
from mediagate_server.catalog.models.model import Model
from mediagate_server.catalog.models.model_file import ModelFiles
from mediagate_server.catalog.pricing.prices import Estimate
from mediagate_server.catalog.request import MediaInput, Message, Modality


def shipped_catalog(
    *, defaults: Mapping[Modality, str] | None = None, assumed: bool = True, **settings: Any
) -> Catalog:
    """Return the shipped catalog, with or without assumed prices."""
    model_files = ModelFiles.shipped()
    if not assumed:
        model_files = model_files.without_assumed_prices()
    return Catalog(
        model_files.models(), defaults={**DEFAULT_MODELS, **(defaults or {})}, **settings
    )


def read_models(file: str, text: str) -> list[Model]:
    """Parse the models of one file. `file` is its name in errors. Raises ModelFileError."""
    model_files = ModelFiles()
    model_files.add(file, text)
    return model_files.models()


def exact_estimate(nanos: int) -> Estimate:
    """Return an estimate of a cost that is known exactly, in nano-dollars."""
    return Estimate(nanos, nanos, nanos)


def message(role: str, *parts: str | MediaInput) -> Message:
    """Return a chat message."""
    return Message(role, parts)
