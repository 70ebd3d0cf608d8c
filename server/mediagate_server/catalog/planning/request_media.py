"""Media references of a request: find the unresolved ones, and replace them by links. Pure."""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from mediagate_server.catalog.request import (
    MediaInput,
    MediaSource,
    Message,
    ModelRequest,
    OutputSource,
    RunRequest,
    UploadSource,
)
from mediagate_server.structs import replace

Request = TypeVar("Request", ModelRequest, RunRequest)
_ChangeMedium = Callable[[str, MediaInput], MediaInput]

MAX_DATA_URI_BYTES: Final = 256 * 1024
"""Size in bytes up to which Replicate recommends a data URI."""

PLACEHOLDER: Final = "https://media.invalid/"
"""Link of an unresolved medium: enough to plan by, and no model can open it."""


def to_data_uri(data: bytes, media_type: str) -> str:
    """Encode a file as a data URI."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def unresolved_media(request: ModelRequest | RunRequest) -> dict[str, MediaSource]:
    """Unresolved media of the request: source by field path."""
    sources: dict[str, MediaSource] = {}

    def collect(path: str, medium: MediaInput) -> MediaInput:
        if medium.source is not None:
            sources[path] = medium.source
        return medium

    if isinstance(request, RunRequest):
        values: Mapping[str, Any] = {
            _run_path(name): value for name, value in request.media.items()
        }
    else:
        values = request.parameters
    for path, value in values.items():
        _map_value(path, value, collect)
    return sources


def resolve_media(request: Request, links: Mapping[str, str]) -> Request:
    """The request with links for the media at these paths."""

    def resolve(path: str, medium: MediaInput) -> MediaInput:
        return MediaInput(links[path]) if path in links else medium

    if isinstance(request, RunRequest):
        media = {
            name: _map_value(_run_path(name), value, resolve)
            for name, value in request.media.items()
        }
        return replace(request, media=media)
    parameters = {
        name: _map_value(name, value, resolve) for name, value in request.parameters.items()
    }
    return replace(request, parameters=parameters)


def source_field(path: str, source: MediaSource) -> str:
    """Path of the field that holds a medium's source."""
    if isinstance(source, UploadSource):
        return f"{path}.upload_id"
    return f"{path}.output" if isinstance(source, OutputSource) else f"{path}.inline"


def _run_path(name: str) -> str:
    return f"media[{json.dumps(name, ensure_ascii=False)}].media"


def _map_value(path: str, value: Any, change: _ChangeMedium) -> Any:
    """A value with `change` applied to each of its media, by field path."""
    if isinstance(value, MediaInput):
        return change(path, value)
    if isinstance(value, tuple):
        return tuple(
            _map_value(f"{path}[{index}]", item, change) for index, item in enumerate(value)
        )
    if isinstance(value, Message):
        content = (
            _map_value(f"{path}.parts[{index}].image", item, change)
            for index, item in enumerate(value.parts)
        )
        return replace(value, parts=tuple(content))
    return value
