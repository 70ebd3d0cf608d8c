"""Media references of a request: find the unresolved ones, and replace them by links. Pure."""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Final, TypeVar, cast

from mediagate_server.catalog.request import (
    MediaInput,
    MediaSource,
    Message,
    ModelRequest,
    OutputSource,
    RunRequest,
    UploadSource,
    Value,
)
from mediagate_server.structs import replace

Request = TypeVar("Request", ModelRequest, RunRequest)

MAX_DATA_URI_BYTES: Final = 256 * 1024
"""Size in bytes up to which Replicate recommends a data URI."""

PLACEHOLDER: Final = "https://media.invalid/"
"""Link of an unresolved medium: enough to plan by, and no model can open it."""


def to_data_uri(data: bytes, media_type: str) -> str:
    """Encode a file as a data URI."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def unresolved_media(request: ModelRequest | RunRequest) -> dict[str, MediaSource]:
    """Unresolved media of the request: source by field path."""
    return {
        path: medium.source
        for name, value in _media_values(request).items()
        for path, medium in _find_media(name, value)
        if medium.source is not None
    }


def resolve_media(request: Request, links: Mapping[str, str]) -> Request:
    """The request with links for the media at these paths."""
    if isinstance(request, RunRequest):
        media = {
            name: tuple(
                _resolve_medium(f"{_run_path(name)}[{index}]", medium, links)
                for index, medium in enumerate(media_inputs)
            )
            for name, media_inputs in request.media.items()
        }
        return replace(request, media=media)
    parameters = {
        name: _resolve_value(name, value, links) for name, value in request.parameters.items()
    }
    return replace(request, parameters=parameters)


def source_field(path: str, source: MediaSource) -> str:
    """Path of the field that holds a medium's source."""
    if isinstance(source, UploadSource):
        return f"{path}.upload_id"
    return f"{path}.output" if isinstance(source, OutputSource) else f"{path}.inline"


def _media_values(request: ModelRequest | RunRequest) -> Mapping[str, Value]:
    """Values that may hold media, by path."""
    if isinstance(request, RunRequest):
        return {_run_path(name): media for name, media in request.media.items()}
    return request.parameters


def _run_path(name: str) -> str:
    return f"media[{json.dumps(name, ensure_ascii=False)}].media"


def _find_media(path: str, value: Value) -> Iterator[tuple[str, MediaInput]]:
    if isinstance(value, MediaInput):
        yield path, value
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            if isinstance(item, MediaInput):
                yield f"{path}[{index}]", item
            elif isinstance(item, Message):
                for number, part in enumerate(item.parts):
                    if isinstance(part, MediaInput):
                        yield f"{path}[{index}].parts[{number}].image", part


def _resolve_value(path: str, value: Value, links: Mapping[str, str]) -> Value:
    """A value with links for its media."""

    def resolve_message(here: str, message: Message) -> Message:
        parts = (
            _resolve_medium(f"{here}.parts[{number}].image", part, links)
            if isinstance(part, MediaInput)
            else part
            for number, part in enumerate(message.parts)
        )
        return Message(message.role, tuple(parts))

    if isinstance(value, MediaInput):
        return _resolve_medium(path, value, links)
    if isinstance(value, tuple):
        resolved = [
            _resolve_medium(f"{path}[{index}]", item, links)
            if isinstance(item, MediaInput)
            else resolve_message(f"{path}[{index}]", item)
            if isinstance(item, Message)
            else item
            for index, item in enumerate(value)
        ]
        return cast("Value", tuple(resolved))
    return value


def _resolve_medium(path: str, medium: MediaInput, links: Mapping[str, str]) -> MediaInput:
    return MediaInput(links[path]) if path in links else medium
