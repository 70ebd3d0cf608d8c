"""gRPC servicer of MediaService."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from mediagate.v1 import media_pb2, media_pb2_grpc, medium_pb2
from mediagate_server import rpc_context
from mediagate_server.api.billable_call_handler import RpcContext
from mediagate_server.api.convert import responses
from mediagate_server.errors import (
    InvalidRequest,
    MediaTooLarge,
    OutputNotFound,
    StoredFailure,
    StreamExpired,
    Violation,
)
from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.media.media_store import (
    CHUNK_BYTES,
    MediaStore,
    StorageFailed,
    document_key,
    output_key,
    storage_failed,
)
from mediagate_server.media.signed_links import MediaLinkSigner
from mediagate_server.media.temp_files import FileTooLarge, TempFile
from mediagate_server.media.uploads import Upload, UploadStore
from mediagate_server.runtime.fair_scheduler import FairScheduler, StreamBandwidth

Requests = AsyncIterator[media_pb2.UploadMediaRequest]

_SMALL_CHUNKS: Final = 1_000
_MIN_CHUNK_BYTES: Final = 1_024
"""Bytes that chunks must have on average, but for the first `_SMALL_CHUNKS`: each message costs
the server the same, whatever it holds."""

_PIECES_BYTES: Final = 4 * 1024 * 1024
"""Of a tenant's reads, that have a piece of full size."""
_MIN_PIECE_BYTES: Final = 16 * 1024


class MediaService(media_pb2_grpc.MediaServiceServicer):
    """MediaService: uploads, and reads of stored media."""

    def __init__(
        self,
        generations: GenerationEngine,
        uploads: UploadStore,
        store: MediaStore,
        links: MediaLinkSigner,
        scheduler: FairScheduler,
    ) -> None:
        self._generations = generations
        self._uploads = uploads
        self._store = store
        self._links = links
        self._scheduler = scheduler
        self._reads: Counter[str] = Counter()
        """Reads under way, of each tenant."""

    async def UploadMedia(
        self, request_iterator: Requests, context: RpcContext
    ) -> media_pb2.UploadMediaResponse:
        """Receives an upload, chunk by chunk."""
        first = await anext(request_iterator, media_pb2.UploadMediaRequest())
        if not first.HasField("metadata"):
            raise InvalidRequest.of("metadata", "must be set in the first message")
        metadata = first.metadata
        if metadata.size_bytes > self._uploads.max_bytes:
            raise _too_large("metadata.size_bytes", self._uploads.max_bytes)
        async with self._uploads.create_temp_file() as incoming:
            await _receive(request_iterator, incoming, metadata)
            upload = await self._uploads.finish(
                incoming, tenant=rpc_context.current_caller().tenant, media_type=metadata.media_type
            )
        return media_pb2.UploadMediaResponse(
            upload_id=upload.id,
            size_bytes=upload.info.size,
            sha256=upload.info.sha256,
            media_type=upload.info.media_type,
            expire_time=_expire_time(upload),
        )

    async def ReadMedia(  # type: ignore[override]  # gRPC takes one that writes, too
        self, request: media_pb2.ReadMediaRequest, context: RpcContext
    ) -> None:
        """Streams a stored medium: first its metadata, then its bytes."""
        media, key = await self._find(request)
        size = media.size_bytes
        if request.offset > size:
            raise StreamExpired(
                "offset is past the end",
                metadata={"offset": str(request.offset), "size": str(size)},
            )
        length = size - request.offset
        if request.HasField("limit"):
            length = min(length, request.limit)
        await context.write(media_pb2.ReadMediaResponse(media=media))
        try:
            await self._send(context, key, request.offset, length)
        except StorageFailed:
            # It may have been erased meanwhile: then it is not lost, and raises NotFound here.
            await self._find(request)
            raise

    async def _find(self, request: media_pb2.ReadMediaRequest) -> tuple[medium_pb2.Media, str]:
        """The requested medium, and the storage key of its bytes."""
        if request.HasField("output"):
            return await self._output(request.output)
        if request.HasField("document"):
            return await self._document(request.document)
        return await self._upload(request.upload_id)

    async def _send(self, context: RpcContext, key: str, offset: int, length: int) -> None:
        transfer = StreamBandwidth(self._scheduler, rpc_context.current_caller().tenant)
        with self._count_read() as piece_bytes:
            async for piece in self._store.read(key, offset, length, piece_bytes):
                length -= len(piece)
                if transfer.add(len(piece)):
                    await transfer.turn()
                writing = context.write(media_pb2.ReadMediaResponse(chunk=piece))
                # A caller who does not read holds what is on its way, and not this beside it.
                del piece
                await writing
        if length:
            raise storage_failed("the file is shorter than it was")

    @contextmanager
    def _count_read(self) -> Iterator[int]:
        """Count a read of the current tenant's; how large its pieces are to be (bytes).

        A piece waits in memory for as long as its reader does not take it: the more reads a tenant
        has under way, the smaller are those of the next one.
        """
        tenant = rpc_context.current_caller().tenant
        self._reads[tenant] += 1
        try:
            yield max(_MIN_PIECE_BYTES, min(CHUNK_BYTES, _PIECES_BYTES // self._reads[tenant]))
        finally:
            self._reads[tenant] -= 1
            if not self._reads[tenant]:
                del self._reads[tenant]

    async def _output(self, reference: medium_pb2.OutputRef) -> tuple[medium_pb2.Media, str]:
        """An output, and its storage key."""
        record = await self._generations.get(
            rpc_context.current_caller().tenant, reference.generation_id
        )
        outputs = record.output.media if record.output else ()
        if reference.index >= len(outputs) or self._generations.is_erasing(record.id):
            raise OutputNotFound(record.id, reference.index)
        medium = outputs[reference.index]
        if medium.failure:
            raise StoredFailure(medium.failure)
        if not medium.is_stored:
            raise OutputNotFound(record.id, reference.index)
        link = (await self._links.links_for(record)).get(reference.index)
        media = responses.encode_media(record.id, reference.index, medium, link)
        return media, output_key(record.id, reference.index)

    async def _document(self, reference: media_pb2.DocumentRef) -> tuple[medium_pb2.Media, str]:
        """A document of a generation, and its storage key."""
        record = await self._generations.get(
            rpc_context.current_caller().tenant, reference.generation_id
        )
        name, document = "output", record.output.document if record.output else None
        if reference.kind == media_pb2.DocumentRef.KIND_LOGS:
            name, document = "logs", record.logs_document
        if document is None or self._generations.is_erasing(record.id):
            raise OutputNotFound(record.id, 0)
        if document.failure:
            raise StoredFailure(document.failure)
        return responses.encode_document(record.id, name, document), document_key(record.id, name)

    async def _upload(self, upload_id: str) -> tuple[medium_pb2.Media, str]:
        """An upload, and its storage key."""
        upload = await self._uploads.find(rpc_context.current_caller().tenant, upload_id)
        facts = upload.info
        media = medium_pb2.Media(
            id=upload.id,
            media_type=facts.media_type,
            size_bytes=facts.size,
            sha256=facts.sha256,
            width=facts.width,
            height=facts.height,
        )
        if facts.seconds is not None:
            media.duration.FromNanoseconds(round(facts.seconds * 1e9))
        return media, upload.key


async def _receive(
    requests: Requests, incoming: TempFile, metadata: media_pb2.UploadMetadata
) -> None:
    """Write all chunks, and check them against the declared metadata."""
    declared = metadata.size_bytes if metadata.HasField("size_bytes") else None
    chunks = 0
    while declared is None or incoming.size <= declared:
        chunk = await _next_chunk(requests)
        if chunk is None:
            break
        chunks += 1
        if chunks > _SMALL_CHUNKS + incoming.size // _MIN_CHUNK_BYTES:
            raise InvalidRequest.of("chunk", f"must have {_MIN_CHUNK_BYTES:,} bytes or more")
        try:
            await incoming.write(chunk)
        except FileTooLarge as over:
            raise _too_large("chunk", over.limit) from None
        # Messages are large: none is held while the next one comes in.
        del chunk
    if declared is not None and incoming.size != declared:
        raise InvalidRequest.of("metadata.size_bytes", "is not the size of what came")
    if not incoming.size:
        raise InvalidRequest.of("chunk", "must come at least once")
    await incoming.finish()
    if metadata.sha256 and metadata.sha256 != incoming.sha256:
        raise InvalidRequest.of("metadata.sha256", "is not the SHA-256 of what came")


async def _next_chunk(requests: Requests) -> bytes | None:
    """The bytes of the next message; None after the last one."""
    message = await anext(requests, None)
    if message is None:
        return None
    if message.HasField("metadata"):
        raise InvalidRequest.of("metadata", "must be set in the first message only")
    return message.chunk


def _too_large(field: str, limit: int) -> MediaTooLarge:
    return MediaTooLarge(Violation(field, f"an upload must have at most {limit:,} bytes"))


def _expire_time(upload: Upload) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(upload.expires_at)
    return stamp
