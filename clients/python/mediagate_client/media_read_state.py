"""State of a resumable media read: next request, bytes received, completeness. Pure."""

from typing import Final

import grpc

from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.media_pb2 import (
    DocumentRef,
    ReadMediaRequest,
    ReadMediaResponse,
    UploadMediaResponse,
)
from mediagate.v1.medium_pb2 import Media, OutputRef
from mediagate_client.conversion import fill
from mediagate_client.errors import (
    DataLost,
    Details,
    MediagateError,
    Unavailable,
    local_invalid_request,
)
from mediagate_client.media_inputs import stored_media_ref, stored_ref_of_id

MediaRef = Media | OutputRef | DocumentRef | Generation | UploadMediaResponse | str
"""A stored medium or document: `text.document`, say, where a text is too large for a response. A
generation is its first output. A string is an id: of a medium, a generation or an upload.
"""

_CUT: Final = "the stream of the medium ended before its end"


class MediaReadState:
    """One read over several connections."""

    def __init__(self, source: MediaRef, offset: int, limit: int | None) -> None:
        """Begin at `offset`, for at most `limit` bytes. Raises InvalidRequest for no medium."""
        self._request = _request_for(source)
        fill(self._request, {"offset": offset, "limit": limit})
        self._request.ClearField("offset")
        self._offset = offset
        self._remaining = limit
        self._size: int | None = None
        self.media = Media()
        """The medium; set by the first message."""

    def next_request(self) -> ReadMediaRequest:
        """Return the request for everything that was not received yet."""
        request = ReadMediaRequest(offset=self._offset)
        request.MergeFrom(self._request)
        if self._remaining is not None:
            request.limit = self._remaining
        return request

    def receive(self, response: ReadMediaResponse) -> bytes:
        """Process one message; return its bytes."""
        if response.HasField("media"):
            if self.media.sha256 and self.media.sha256 != response.media.sha256:
                message = "the medium is another one now"
                raise DataLost(Details(grpc.StatusCode.DATA_LOSS, message))
            self.media = response.media
            self._size = response.media.size_bytes
            return b""
        piece = response.chunk
        self._offset += len(piece)
        if self._remaining is not None:
            self._remaining -= len(piece)
        return piece

    @property
    def is_complete(self) -> bool:
        """Whether everything requested was received."""
        return self._size is not None and (self._remaining == 0 or self._offset >= self._size)

    def incomplete_error(self) -> MediagateError:
        """Return the error for a stream that ended early without one."""
        return Unavailable(Details(grpc.StatusCode.UNAVAILABLE, _CUT))


def _request_for(source: MediaRef) -> ReadMediaRequest:
    ref: OutputRef | DocumentRef | None
    match source:
        case str():
            return _request_for_id(source)
        case UploadMediaResponse():
            return ReadMediaRequest(upload_id=source.upload_id)
        case Generation():
            ref = OutputRef(generation_id=source.id)
        case OutputRef() | DocumentRef():
            ref = source
        case Media():
            ref = stored_media_ref(source)
        case _:
            raise local_invalid_request("media", f"{type(source).__name__} is not a stored medium")
    if ref is None:
        raise local_invalid_request(
            "media", "the server has not stored it: see its error, and its uri"
        )
    if isinstance(ref, DocumentRef):
        return ReadMediaRequest(document=ref)
    return ReadMediaRequest(output=ref)


def _request_for_id(name: str) -> ReadMediaRequest:
    try:
        ref = stored_ref_of_id(name)
    except ValueError:  # A lone surrogate.
        ref = None
    match ref:
        case str():
            return ReadMediaRequest(upload_id=ref)
        case OutputRef():
            return ReadMediaRequest(output=ref)
        case DocumentRef():
            return ReadMediaRequest(document=ref)
    description = "is no id of a medium, a generation or an upload; a link: see download()"
    raise local_invalid_request("media", description)
