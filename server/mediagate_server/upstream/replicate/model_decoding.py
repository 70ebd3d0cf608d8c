"""Decoding of models, versions and deployments: JSON -> the port's types, leniently.

A document may lack or null anything but its name, and an official model may publish no version.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from mediagate_server.upstream.documents.json_parser import parse_object
from mediagate_server.upstream.port import (
    NoResponse,
    PublishedDeployment,
    PublishedModel,
    PublishedVersion,
)

_LONGEST_EXAMPLE: Final = 86_400
"""Longest run time of an example, in seconds. No run takes longer than half an hour."""
_EMPTY: Mapping[str, Any] = MappingProxyType({})


def decode_model(body: bytes) -> PublishedModel:
    """Decode a model. Raises NoResponse where it has no name."""
    document = _object(body)
    example = _inner(_inner(document, "default_example"), "metrics").get("predict_time")
    return PublishedModel(
        slug=_slug(document),
        is_official=_boolean(document, "is_official"),
        latest=_version(_inner(document, "latest_version")),
        is_private=_text(document, "visibility").lower() == "private",
        example_seconds=_example_seconds(example),
    )


def _example_seconds(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 < value <= _LONGEST_EXAMPLE else None


def decode_version(body: bytes) -> PublishedVersion:
    """Decode a version. Raises NoResponse where it has no id."""
    version = _version(_object(body))
    if version is None:
        raise NoResponse("the answer names no version")
    return version


def decode_deployment(body: bytes) -> PublishedDeployment:
    """Decode a deployment. Raises NoResponse where it does not name its model."""
    document = _object(body)
    release = _inner(document, "current_release")
    model = _text(release, "model")
    if not model:
        raise NoResponse("the answer does not say what the deployment runs")
    return PublishedDeployment(
        name=_slug(document),
        model=model,
        version=_text(release, "version"),
        hardware=_text(_inner(release, "configuration"), "hardware"),
    )


def _object(body: bytes) -> Mapping[str, Any]:
    """Parse an object; members that are nested too deep are null."""
    return parse_object(body).members


def _slug(document: Mapping[str, Any]) -> str:
    owner, name = _text(document, "owner"), _text(document, "name")
    if not owner or not name:
        raise NoResponse("the answer has no name")
    return f"{owner}/{name}"


def _version(document: Mapping[str, Any]) -> PublishedVersion | None:
    version = _text(document, "id")
    return PublishedVersion(version, _inner(document, "openapi_schema")) if version else None


def _inner(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else _EMPTY


def _boolean(document: Mapping[str, Any], key: str) -> bool | None:
    value = document.get(key)
    return value if isinstance(value, bool) else None


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""
