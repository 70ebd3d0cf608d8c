"""A medium that is read from a gate: what to ask for, and where to go on after a cut. Pure."""

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
from mediagate_client.errors import (
    DataLost,
    Details,
    MediagateError,
    Unavailable,
    local_invalid_request,
)
from mediagate_client.media_inputs import stored_media_ref

MediaRef = Media | OutputRef | DocumentRef | Generation | UploadMediaResponse | str
"""A medium or a document that a gate keeps: `text.document`, say, where a text is too large to be
shown whole. A generation is its first output, a string is an upload's id.
"""

_CUT: Final = "the stream of the medium ended before its end"


class MediaReadState:
    """One reading, over as many connections as it takes."""

    def __init__(self, source: MediaRef, offset: int, limit: int | None) -> None:
        """Begin at `offset`, for at most `limit` bytes. Raises InvalidRequest for no medium."""
        self._request = _request_for(source)
        self._offset = offset
        self._left = limit
        self._size: int | None = None
        self.media = Media()
        """What is read, once its first message has come."""

    def next_request(self) -> ReadMediaRequest:
        """Return what to ask for now: everything that has not come yet."""
        request = ReadMediaRequest(offset=self._offset)
        request.MergeFrom(self._request)
        if self._left is not None:
            request.limit = self._left
        return request

    def receive(self, response: ReadMediaResponse) -> bytes:
        """Take in one message; return its bytes."""
        if response.HasField("media"):
            if self.media.sha256 and self.media.sha256 != response.media.sha256:
                message = "the medium is another one now"
                raise DataLost(Details(grpc.StatusCode.DATA_LOSS, message))
            self.media = response.media
            self._size = response.media.size_bytes
            return b""
        piece = response.chunk
        self._offset += len(piece)
        if self._left is not None:
            self._left -= len(piece)
        return piece

    @property
    def is_whole(self) -> bool:
        """Say whether everything that was asked for has come."""
        return self._size is not None and (self._left == 0 or self._offset >= self._size)

    def ended_early(self) -> MediagateError:
        """Return the failure of a stream that ended without an error, though not at its end."""
        return Unavailable(Details(grpc.StatusCode.UNAVAILABLE, _CUT))


def _request_for(source: MediaRef) -> ReadMediaRequest:
    ref: OutputRef | DocumentRef | None
    match source:
        case str():
            return ReadMediaRequest(upload_id=source)
        case UploadMediaResponse():
            return ReadMediaRequest(upload_id=source.upload_id)
        case Generation():
            ref = OutputRef(generation_id=source.id)
        case OutputRef() | DocumentRef():
            ref = source
        case Media():
            ref = stored_media_ref(source)
    if ref is None:
        raise local_invalid_request(
            "media", "the gate does not keep it: see its error, and its uri"
        )
    if isinstance(ref, DocumentRef):
        return ReadMediaRequest(document=ref)
    return ReadMediaRequest(output=ref)
