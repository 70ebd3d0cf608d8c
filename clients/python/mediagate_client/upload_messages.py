"""Messages of an upload: metadata, then chunks. Sends nothing."""

import hashlib
import mimetypes
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

import grpc

from mediagate.v1.media_pb2 import UploadMediaRequest, UploadMediaResponse, UploadMetadata
from mediagate_client.conversion import build
from mediagate_client.errors import DataLost, Details, local_invalid_request
from mediagate_client.media_inputs import sniff

UPLOAD_SECONDS: Final = 600.0
"""Default timeout of an upload with all its attempts."""

PIECE_BYTES: Final = 512 * 1024
_HEAD_BYTES: Final = 64


class UploadMessages:
    """Messages of one file; they can be iterated again for a retry."""

    def __init__(self, source: str | Path | bytes, media_type: str) -> None:
        """Read size and type. Raises InvalidRequest where the source is empty or unreadable."""
        if not isinstance(source, (str, Path, bytes)):
            raise local_invalid_request("source", f"{type(source).__name__} is not a file")
        self._source = source if isinstance(source, bytes) else Path(source)
        self._digest = hashlib.sha256()
        try:
            with self._open() as file:
                size = file.seek(0, 2)
                file.seek(0)
                head = file.read(_HEAD_BYTES)
        except OSError as error:
            raise local_invalid_request(
                "source", f"cannot read {source!s}: {error.strerror}"
            ) from error
        except ValueError as error:  # Of a path: a NUL, or a lone surrogate.
            raise local_invalid_request("source", str(error)) from error
        if size == 0:
            raise local_invalid_request("source", "the file is empty")
        name = "" if isinstance(self._source, bytes) else self._source.name
        detected = media_type or sniff(head) or mimetypes.guess_type(name)[0] or ""
        self._metadata = build(UploadMetadata, media_type=detected, size_bytes=size)

    def messages(self) -> Iterator[UploadMediaRequest]:
        """Iterate over the messages from the start. Blocks while it reads. Raises OSError."""
        self._digest = hashlib.sha256()
        yield UploadMediaRequest(metadata=self._metadata)
        with self._open() as file:
            while piece := file.read(PIECE_BYTES):
                self._digest.update(piece)
                yield UploadMediaRequest(chunk=piece)

    def verify(self, answer: UploadMediaResponse) -> UploadMediaResponse:
        """Return the response; raise DataLost where its SHA-256 differs."""
        if answer.sha256 != self._digest.hexdigest():
            raise DataLost(
                Details(grpc.StatusCode.DATA_LOSS, "upload: what arrived is not what was sent")
            )
        return answer

    def _open(self) -> BinaryIO:
        return BytesIO(self._source) if isinstance(self._source, bytes) else self._source.open("rb")
