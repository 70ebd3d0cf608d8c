"""Media inputs: what upstream is given for an upload, an earlier output, or bytes of some size.

Done before a request is accepted, so that the input that is sent, hashed and kept for a restart is
whole. A request that cannot be planned has been refused before: nothing is uploaded for it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final, Protocol

from mediagate_server.catalog.planning import request_media
from mediagate_server.catalog.request import (
    InlineSource,
    MediaSource,
    ModelRequest,
    OutputSource,
    RunRequest,
    UploadSource,
)
from mediagate_server.errors import (
    GenerationNotFound,
    InvalidRequest,
    NotFound,
    OutputNotFound,
    Violation,
)
from mediagate_server.generations.inputs.input_files import InputFile, InputFileUploader
from mediagate_server.media.data_uri import is_data_uri
from mediagate_server.media.media_store import MediaStore, output_key
from mediagate_server.media.uploads import UploadStore
from mediagate_server.store.records import Generation, State, StoredMedia
from mediagate_server.structs import replace

MIN_LINK_LIFETIME: Final = timedelta(minutes=15)
"""A link that is to be read by a model which may have to wait and boot must live for so long."""


class LinkChecker(Protocol):
    """Looks at links, without a token."""

    async def exists(self, link: str) -> bool:
        """Whether the link still leads to the file."""
        ...


class MediaInputs:
    """Makes links of sources. `generation` finds one of a tenant, or raises GenerationNotFound."""

    def __init__(
        self,
        uploads: UploadStore,
        store: MediaStore,
        links: LinkChecker,
        handing: InputFileUploader,
        *,
        generation: Callable[[str, str], Awaitable[Generation]],
        now: Callable[[], datetime],
    ) -> None:
        self._uploads = uploads
        self._store = store
        self._links = links
        self._handing = handing
        self._generation = generation
        self._now = now

    async def check(self, tenant: str, request: ModelRequest | RunRequest) -> None:
        """Whether all media that the request names are there. Nothing is sent anywhere.

        Raises UploadNotFound, GenerationNotFound or InvalidRequest, naming the field.
        """
        for path, source in request_media.unresolved_media(request).items():
            async with _naming(request_media.source_field(path, source)):
                await self._find(tenant, source)

    async def resolve(self, tenant: str, request: request_media.Request) -> request_media.Request:
        """The request with a link, or a data URI, for each of its media.

        Raises what `check` raises, MediaTooLarge where upstream takes no such file, and
        UpstreamUnavailable or UpstreamAccountError where it cannot be handed over now.
        """
        links = {}
        for path, source in request_media.unresolved_media(request).items():
            async with _naming(request_media.source_field(path, source)):
                links[path] = await self._link(tenant, source)
        return request_media.resolve_media(request, links)

    async def _link(self, tenant: str, source: MediaSource) -> str:
        found = await self._find(tenant, source)
        if isinstance(found, InputFile):
            return await self._handing.link(found)
        return found

    async def _find(self, tenant: str, source: MediaSource) -> InputFile | str:
        """The file to hand over, or the link that there is already."""
        match source:
            case InlineSource():
                return InputFile.of_bytes(source.data, source.media_type)
            case UploadSource():
                upload = await self._uploads.find(tenant, source.upload_id)
                return self._kept(upload.key, upload.info.size, upload.info.media_type)
            case OutputSource():
                return await self._output(tenant, source)

    async def _output(self, tenant: str, source: OutputSource) -> InputFile | str:
        """Upstream's own link as long as it lives, else the copy that was kept."""
        record = await self._generation(tenant, source.generation_id)
        medium = _output_of(record, source.index)
        if await self._is_usable(medium):
            return medium.uri
        if medium.is_stored and medium.size is not None:
            key = output_key(record.id, source.index)
            return self._kept(key, medium.size, medium.media_type)
        raise OutputNotFound(record.id, source.index)

    async def _is_usable(self, medium: StoredMedia) -> bool:
        """Whether upstream's link will live long enough. It is asked: its clock may differ."""
        if not medium.uri or is_data_uri(medium.uri):
            return False
        if medium.expires_at and medium.expires_at - self._now() < MIN_LINK_LIFETIME:
            return False
        return await self._links.exists(medium.uri)

    def _kept(self, key: str, size: int, media_type: str) -> InputFile:
        return InputFile(key, size, media_type, lambda: self._store.read(key, 0, size))


def _output_of(record: Generation, index: int) -> StoredMedia:
    outputs = record.output.media if record.output else ()
    if record.state is not State.SUCCEEDED:
        raise InvalidRequest.of("", "must be of a generation that has succeeded")
    if index >= len(outputs):
        raise OutputNotFound(record.id, index)
    return outputs[index]


@asynccontextmanager
async def _naming(field: str) -> AsyncIterator[None]:
    """Whatever is wrong with a medium names the field that asked for it."""
    try:
        yield
    except NotFound as error:
        words = "no such generation" if type(error) is GenerationNotFound else error.failure.message
        error.failure = replace(error.failure, violations=(Violation(field, words),))
        raise
    except InvalidRequest as error:
        words = error.failure.violations[0].description
        raise type(error)(Violation(field, words)) from None
