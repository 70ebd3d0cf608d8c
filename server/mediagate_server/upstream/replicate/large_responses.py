"""Large responses: received into files and read by worker processes, to bound memory.

A response contains a model's output, which may be anything. Up to 256 KiB it is decoded directly. A
larger one, or one with very many values, is written to a file as it arrives; a worker reduces it to
the fields that are read (`json_member_filter.py`), and what it leaves out stays in the file as a
`LargeValue`. Disk space is bounded, and shared fairly between tenants.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import weakref
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import aiohttp
import httpx
import orjson

from mediagate_server import rpc_context
from mediagate_server.structs import replace
from mediagate_server.upstream.large_values import (
    ExtractedMedium,
    JsonFile,
    LargeValue,
    MediaLocations,
    MediaOutline,
    TextFile,
    ValueUnreadable,
)
from mediagate_server.upstream.port import (
    MAX_OUTPUT_RESPONSE_BYTES,
    NoResponse,
    Prediction,
    PredictionPage,
    UnreadableResponse,
)
from mediagate_server.upstream.replicate.prediction_decoding import decode_page, decode_prediction
from mediagate_server.workers.worker_pool import (
    MIB,
    FairSemaphore,
    QueueFull,
    SystemFailure,
    Task,
    WorkerError,
    WorkerPool,
    WorkerStartFailed,
)


class DiskReservation:
    """Disk space of a bounded size, of which one tenant has half at most. For one event loop.

    Waiters are served in order, so that large requests are not starved by small ones.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._share = size // 2
        self._used: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[tuple[int, asyncio.Future[None]]]] = OrderedDict()

    @property
    def free(self) -> int:
        """Free bytes."""
        return self._free

    async def acquire(self, tenant: str, count: int) -> None:
        """Wait for so many bytes, which must be released."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append((count, turn))
        self._grant()
        try:
            await turn
        except BaseException:
            if turn.cancelled():
                self._grant()
            else:
                self.release(tenant, count)
            raise

    def release(self, tenant: str, count: int) -> None:
        """Release so many bytes."""
        self._free += count
        self._used[tenant] -= count
        if not self._used[tenant]:
            del self._used[tenant]
        self._grant()

    def _grant(self) -> None:
        while (tenant := self._next()) is not None:
            count, turn = self._waiting[tenant][0]
            if count > self._free:
                return
            self._waiting[tenant].popleft()
            self._waiting.move_to_end(tenant)
            self._free -= count
            self._used[tenant] += count
            turn.set_result(None)

    def _next(self) -> str | None:
        """The tenant that has waited longest and has not used up its share."""
        for tenant, queue in list(self._waiting.items()):
            while queue and queue[0][1].cancelled():
                queue.popleft()
            if not queue:
                del self._waiting[tenant]
            elif self._used[tenant] + queue[0][0] <= self._share:
                return tenant
        return None


def release_later(
    loop: asyncio.AbstractEventLoop, space: DiskReservation, tenant: str, count: int
) -> None:
    """Release from a finalizer, which may run in any thread."""
    with contextlib.suppress(RuntimeError):  # The loop is closed.
        loop.call_soon_threadsafe(space.release, tenant, count)


MAX_MEMORY_BYTES: Final = 256 * 1024
"""Largest response that is decoded directly, in bytes."""
MAX_COMMAS: Final = 20_000
MAX_RESPONSE_BYTES: Final = 512 * MIB
"""Largest response that is read at all, in bytes."""
MAX_DISK_BYTES: Final = 4 * 1024 * MIB
"""Disk space of all responses, in bytes; those being received count as the largest size."""
_MAX_RECEIVING: Final = 8
"""Large responses received at a time; one tenant has at most all but one of them."""
_MOST_WAITING: Final = 4_096
_WRITE_BYTES: Final = 256 * 1024
_STALL_SECONDS: Final = 10.0
"""Seconds within which the next MiB must arrive."""
_RECEIVE_SECONDS: Final = 300.0
"""Seconds in which all of it must arrive."""
_REDUCE_SECONDS: Final = 60.0
_EXTRACT_SECONDS: Final = 60.0
_PAUSE: Final = 1.0
"""Seconds until an extraction is given to a worker again, where none was available."""
# The mapped file counts as memory; a job allocates a few MiB besides.
_MEMORY: Final = MAX_RESPONSE_BYTES + 256 * MIB
_NOT_WRITTEN: Final = "it could not be written down"
_ROOM: Final = "mediagate_server.upstream.documents"
_PREDICTION: Final = Task(f"{_ROOM}.json_member_filter:reduce_prediction", _MEMORY)
_PAGE: Final = Task(f"{_ROOM}.json_member_filter:reduce_page", _MEMORY)
_DOCUMENT: Final = Task(f"{_ROOM}.json_member_filter:reduce_document", _MEMORY)
_TEXT: Final = Task(f"{_ROOM}.json_extraction:extract_text", _MEMORY)
_JSON: Final = Task(f"{_ROOM}.json_extraction:extract_json", _MEMORY)
_OUTLINE: Final = Task(f"{_ROOM}.json_extraction:outline_media", _MEMORY)


class ResponseFile:
    """A response in a file, which is deleted with the last reference to it."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        weakref.finalize(self, path.unlink, missing_ok=True)


Body = bytes | ResponseFile


def has_many_values(body: bytes) -> bool:
    """Whether a small body would become very many objects."""
    return len(body) > 2 * MAX_COMMAS and body.count(b",") > MAX_COMMAS


class LargeResponses:
    """Receives and reads large responses. For one process and one event loop.

    `folder` is cleared: what is in it was left by an earlier process.
    """

    def __init__(self, folder: Path, workers: WorkerPool) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        self._folder = folder
        self._workers = workers
        self._slots = FairSemaphore(_MAX_RECEIVING)
        self._space = DiskReservation(MAX_DISK_BYTES)

    async def receive(
        self,
        start: bytes,
        chunks: AsyncIterator[bytes],
        status: int,
        within: asyncio.Timeout | None = None,
        most: int | None = None,
    ) -> ResponseFile:
        """Write a body, and all that follows, into a file. Raises NoResponse where it breaks off.

        `within` is the timeout of the request, which is extended while data arrives. `most` is the
        largest size; None: MAX_RESPONSE_BYTES.
        """
        if within is not None:
            within.reschedule(None)
        tenant, left = rpc_context.current_tenant(), MAX_RESPONSE_BYTES if most is None else most
        await self._space.acquire(tenant, left)
        try:
            body = await self._receive_file(start, chunks, status, within)
            loop = asyncio.get_running_loop()
            weakref.finalize(body, release_later, loop, self._space, tenant, body.size)
            left -= body.size
        finally:
            self._space.release(tenant, left)
        return body

    async def _receive_file(
        self,
        start: bytes,
        chunks: AsyncIterator[bytes],
        status: int,
        within: asyncio.Timeout | None,
    ) -> ResponseFile:
        async with self._receive_slot(within):
            path = self._folder / secrets.token_hex(16)
            creating = asyncio.ensure_future(asyncio.to_thread(_create, path))
            try:
                file = await asyncio.shield(creating)
            except asyncio.CancelledError:
                creating.add_done_callback(partial(_discard, path))
                raise
            except OSError:
                raise UnreadableResponse(_NOT_WRITTEN, is_temporary=True) from None
            body = ResponseFile(path, 0)
            try:
                body.size = await _write_all(file, start, chunks, status, within)
            finally:
                await asyncio.shield(asyncio.to_thread(file.close))
        return body

    @asynccontextmanager
    async def _receive_slot(self, within: asyncio.Timeout | None) -> AsyncIterator[None]:
        """A slot for receiving. The wait for it does not count for upstream's timeout."""
        async with self._slots.acquire(rpc_context.current_tenant(), _MOST_WAITING):
            _extend_timeout(within, asyncio.get_running_loop().time() + _RECEIVE_SECONDS)
            yield

    async def prediction(self, body: Body) -> Prediction:
        """Decode a prediction. Raises UnreadableResponse."""
        file = await self._in_file(body)
        spans, document = await self._reduce(_PREDICTION, file)
        prediction = decode_prediction(document)
        if not prediction.status.is_terminal:
            return prediction  # Its output is not final, so the file is not kept for it.
        is_over = file.size > MAX_OUTPUT_RESPONSE_BYTES
        values = {
            name: LargeValue(file, begin, end, entries, self, is_too_large=is_over)
            for name, (begin, end, entries) in spans.items()
        }
        return replace(
            prediction,
            output=values.get("output", prediction.output),
            large_logs=values.get("logs"),
        )

    async def page(self, body: Body) -> PredictionPage:
        """Decode a page of a list, without outputs and logs."""
        return decode_page((await self._reduce(_PAGE, await self._in_file(body)))[1])

    async def document(self, body: Body) -> bytes:
        """Reduce any other response to a small document."""
        return (await self._reduce(_DOCUMENT, await self._in_file(body)))[1]

    async def _in_file(self, body: Body) -> ResponseFile:
        if isinstance(body, ResponseFile):
            return body
        return await self.receive(body, _no_chunks(), 200, most=len(body))

    async def _reduce(self, task: Task, file: ResponseFile) -> tuple[dict[str, Any], bytes]:
        try:
            answer = await self._workers.run(
                task,
                os.fsencode(file.path),
                seconds=_REDUCE_SECONDS,
                tenant=rpc_context.current_tenant(),
                max_waiting=_MOST_WAITING,
            )
        except (WorkerStartFailed, QueueFull, SystemFailure) as error:
            cause = f"reading the answer: {type(error).__name__}"
            raise UnreadableResponse(cause, is_temporary=True) from None
        except WorkerError as error:
            raise UnreadableResponse(f"reading the answer: {type(error).__name__}") from None
        spans, _, document = answer.partition(b"\n")
        if not document:
            raise NoResponse("the answer is not JSON")
        return orjson.loads(spans), document

    async def write_text(
        self, value: LargeValue, target: Path, prefix_size: int, prefix_sha256: str
    ) -> TextFile:
        """Write a text as UTF-8."""
        args = {"prefix_size": prefix_size, "prefix_sha256": prefix_sha256}
        result = await self._extract(_TEXT, value, {"target": str(target), **args})
        if not result:
            raise ValueUnreadable("it is no text")
        return TextFile(result["size"], has_prefix=result["prefix"])

    async def write_json(
        self, value: LargeValue, target: Path, locations: MediaLocations
    ) -> JsonFile:
        """Write any value as JSON, its media extracted."""
        result = await self._extract(
            _JSON, value, {"target": str(target), **_media_args(locations)}
        )
        return JsonFile(
            result["size"], tuple(_medium(medium, target) for medium in result["media"])
        )

    async def outline_media(self, value: LargeValue, locations: MediaLocations) -> MediaOutline:
        """The media of a value, and the rest of it."""
        result = await self._extract(_OUTLINE, value, _media_args(locations))
        media = tuple(
            ExtractedMedium(medium["uri"], is_file="file" in medium) for medium in result["media"]
        )
        return MediaOutline(result["count"], result["value"], media)

    async def _extract(self, task: Task, value: LargeValue, args: dict[str, Any]) -> dict[str, Any]:
        body: ResponseFile = value.file
        args = {"path": str(body.path), "begin": value.begin, "end": value.end, **args}
        result: dict[str, Any] = orjson.loads(await self._run_extraction(task, orjson.dumps(args)))
        return result

    async def _run_extraction(self, task: Task, payload: bytes) -> bytes:
        """Run a task as soon as a worker is available. Raises ValueUnreadable, OSError."""
        while True:
            try:
                return await self._workers.run(
                    task,
                    payload,
                    seconds=_EXTRACT_SECONDS,
                    tenant=rpc_context.current_tenant(),
                    max_waiting=_MOST_WAITING,
                )
            except (WorkerStartFailed, QueueFull):
                await asyncio.sleep(_PAUSE)
            except SystemFailure as failed:
                raise OSError(failed.number, "a worker could not write it down") from None
            except WorkerError as error:
                raise ValueUnreadable(type(error).__name__) from None


def _media_args(locations: MediaLocations) -> dict[str, Any]:
    return {"media": locations.paths, "anywhere": locations.anywhere, "typed": locations.typed}


def _medium(medium: dict[str, str], target: Path) -> ExtractedMedium:
    name = medium.get("file")
    file = target.with_name(target.name + name) if name else None
    return ExtractedMedium(medium["uri"], file, is_broken=name == "", is_file="file" in medium)


def _create(path: Path) -> BinaryIO:
    return open(path, "xb", opener=_open_private)


def _discard(path: Path, creating: "asyncio.Future[BinaryIO]") -> None:
    """Delete a file whose receiver was cancelled while it was created."""
    if creating.cancelled() or creating.exception() is not None:
        return
    creating.result().close()
    path.unlink(missing_ok=True)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


async def _write_all(
    file: BinaryIO,
    start: bytes,
    chunks: AsyncIterator[bytes],
    status: int,
    within: asyncio.Timeout | None,
) -> int:
    """Write everything to the file in pieces of 256 KiB; returns the size."""
    waiting, size, reported = bytearray(start), len(start), 0
    until = asyncio.get_running_loop().time() + _RECEIVE_SECONDS
    try:
        async for chunk in chunks:
            size += len(chunk)
            if size > MAX_RESPONSE_BYTES:
                raise UnreadableResponse("the answer is too large", http_status=status)
            waiting += chunk
            if len(waiting) >= _WRITE_BYTES:
                await asyncio.to_thread(_write, file, bytes(waiting))
                waiting.clear()
                if size - reported >= MIB:
                    reported = size
                    _extend_timeout(within, until)
    except (httpx.HTTPError, aiohttp.ClientError, ConnectionError):
        pass  # JSON says itself whether it is complete.
    except OSError:
        raise UnreadableResponse(_NOT_WRITTEN, http_status=status, is_temporary=True) from None
    try:
        await asyncio.to_thread(_write, file, bytes(waiting))
    except OSError:
        raise UnreadableResponse(_NOT_WRITTEN, http_status=status, is_temporary=True) from None
    return size


def _write(file: BinaryIO, data: bytes) -> None:
    """Write and flush; not by the descriptor, which may be closed and reused before a late thread
    runs.
    """
    file.write(data)
    file.flush()


def _extend_timeout(within: asyncio.Timeout | None, until: float) -> None:
    if within is not None and not within.expired():
        within.reschedule(min(until, asyncio.get_running_loop().time() + _STALL_SECONDS))


async def _no_chunks() -> AsyncIterator[bytes]:
    if False:
        yield b""
