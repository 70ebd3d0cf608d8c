# Generated from aio/media.py by `make generate`. Do not edit.
"""Calls of MediaService, blocking: upload, read, download."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc

from mediagate.v1.media_pb2 import UploadMediaResponse
from mediagate.v1.medium_pb2 import Media
from mediagate_client import download as downloads
from mediagate_client.backends import blocking as backend
from mediagate_client.error_mapping import from_rpc_error
from mediagate_client.errors import MediagateError, NotFound, local_invalid_request
from mediagate_client.media_inputs import stored_media_ref
from mediagate_client.media_read_state import MediaReadState, MediaRef
from mediagate_client.retry import Deadline
from mediagate_client.sync.generations import GenerationCalls
from mediagate_client.upload_messages import UPLOAD_SECONDS, UploadMessages


class MediaCalls(GenerationCalls):
    """Part of the client: files."""

    def upload(
        self,
        source: str | Path | bytes,
        *,
        media_type: str = "",
        rpc_timeout: float | None = UPLOAD_SECONDS,
    ) -> UploadMediaResponse:
        """Upload a file, by path or as bytes; the response is accepted by any media field.

        The server stores it until its `expire_time`.
        """
        upload = backend.run_blocking(UploadMessages, source, media_type)
        deadline = self._calls.deadline(rpc_timeout)
        retries = self._calls.retries(deadline)
        while True:
            try:
                return upload.verify(self._upload_once(upload, deadline))
            except MediagateError as failure:
                self._calls.pause(retries, failure)

    def _upload_once(self, upload: UploadMessages, deadline: Deadline) -> UploadMediaResponse:
        messages, seconds = upload.messages(), deadline.remaining()
        try:
            return backend.call_upload(
                self._stubs.media.UploadMedia, messages, seconds, self._calls.metadata
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error

    def read_media(
        self, source: MediaRef, *, offset: int = 0, limit: int | None = None
    ) -> Iterator[bytes]:
        """Iterate over the bytes of a stored medium or document, from `offset` on.

        Reconnects after an interruption. Raises NotFound where there is none, DataLost where it
        could not be stored.
        """
        state = MediaReadState(source, offset, limit)
        retries = self._calls.retries(self._calls.deadline(None))
        while not state.is_complete:
            call = backend.open_stream(
                self._stubs.media.ReadMedia, state.next_request(), None, self._calls.metadata
            )
            failure: MediagateError = state.incomplete_error()
            try:
                while (response := backend.next_message(call)) is not None:
                    if piece := state.receive(response):
                        retries.reset()
                        yield piece
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
            finally:
                call.cancel()
            if not state.is_complete:
                self._calls.pause(retries, failure)

    def download(
        self,
        media: Media | str,
        path: str | Path,
        *,
        max_bytes: int = downloads.DEFAULT_MAX_BYTES,
    ) -> Path:
        """Save a finished medium as the file `path`; return the path. See download.py.

        By its link, or from the server where that is gone.
        """
        stored = stored_media_ref(media) if isinstance(media, Media) else None
        if not isinstance(media, Media) or downloads.has_link(media) or stored is None:
            try:
                return backend.download(media, path, max_bytes)
            except NotFound:
                if stored is None:
                    raise
        if isinstance(media, str):
            raise local_invalid_request("media", "the server has not stored it")
        with downloads.atomic_file(media, path, max_bytes) as write:
            for piece in self.read_media(media):
                backend.run_blocking(write, piece)
        return Path(path)
