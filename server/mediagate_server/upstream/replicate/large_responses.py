"""Large answers: received into files, and read by worker processes, so that none is ever an object.

An answer of upstream's holds what a model has put out, which may be anything. Up to 256 KiB it is
decoded where it arrives. Beyond that, or where it has very many values, it lies in a file from its
first bytes on; a worker cuts it down to what the server reads (`json_reduction.py`), and what it
leaves out stays in the file as a `LargeValue` for whoever wants it.

Reservation of disk space: a bounded number of bytes, given to tenants in turn.
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

from mediagate_server.context import caller
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
    MAX_OUTPUTS_KEPT,
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
    """So many bytes, of which one tenant has half at the most. For one event loop.

    Whoever waits is served before all that come later for less: else much would never be free.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._share = size // 2
        self._taken: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[tuple[int, asyncio.Future[None]]]] = OrderedDict()

    @property
    def free(self) -> int:
        """Bytes that nobody has."""
        return self._free

    async def acquire(self, tenant: str, count: int) -> None:
        """Wait for so many bytes, which are to be given back."""
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
        """These are free again."""
        self._free += count
        self._taken[tenant] -= count
        if not self._taken[tenant]:
            del self._taken[tenant]
        self._grant()

    def _grant(self) -> None:
        while (tenant := self._next()) is not None:
            count, turn = self._waiting[tenant][0]
            if count > self._free:
                return
            self._waiting[tenant].popleft()
            self._waiting.move_to_end(tenant)
            self._free -= count
            self._taken[tenant] += count
            turn.set_result(None)

    def _next(self) -> str | None:
        """The tenant who has waited longest for a turn and has not its share already."""
        for tenant, queue in list(self._waiting.items()):
            while queue and queue[0][1].cancelled():
                queue.popleft()
            if not queue:
                del self._waiting[tenant]
            elif self._taken[tenant] + queue[0][0] <= self._share:
                return tenant
        return None


def release_later(
    loop: asyncio.AbstractEventLoop, space: DiskReservation, tenant: str, count: int
) -> None:
    """For finalizers, which run in any thread and in the midst of anything."""
    with contextlib.suppress(RuntimeError):  # The loop is closed.
        loop.call_soon_threadsafe(space.release, tenant, count)


MAX_MEMORY_BYTES: Final = 256 * 1024
"""Bytes of an answer that is decoded where it arrives."""
MAX_COMMAS: Final = 20_000
MAX_RESPONSE_BYTES: Final = 512 * MIB
"""Bytes of an answer that is read at all."""
MAX_DISK_BYTES: Final = 4 * 1024 * MIB
"""Bytes of all answers that lie in files, those that are received reckoned as the most they may be.
One tenant has half of them at the most; whoever finds no room waits.
"""
_AT_ONCE: Final = 8
"""Large answers that are received at a time; one tenant has at most all but one of these places."""
_MOST_WAITING: Final = 4_096
_PIECE: Final = 256 * 1024
_STALLED: Final = 10.0
"""Seconds within which the next MiB has to come."""
_LONGEST: Final = 300.0
"""Seconds in which all of it has to come."""
_REDUCE_SECONDS: Final = 60.0
_EXTRACT_SECONDS: Final = 60.0
_PAUSE: Final = 1.0
"""Seconds until what is paid for is given to a worker again, where none could take it."""
# The file is mapped, which counts as memory; what a job allocates besides is a few MiB.
_MEMORY: Final = MAX_RESPONSE_BYTES + 256 * MIB
_NOT_WRITTEN: Final = "it could not be written down"
_ROOM: Final = "mediagate_server.upstream.documents"
_PREDICTION: Final = Task(f"{_ROOM}.json_reduction:reduce_prediction", _MEMORY)
_PAGE: Final = Task(f"{_ROOM}.json_reduction:reduce_page", _MEMORY)
_DOCUMENT: Final = Task(f"{_ROOM}.json_reduction:reduce_document", _MEMORY)
_TEXT: Final = Task(f"{_ROOM}.json_extraction:extract_text", _MEMORY)
_JSON: Final = Task(f"{_ROOM}.json_extraction:extract_json", _MEMORY)
_OUTLINE: Final = Task(f"{_ROOM}.json_extraction:outline_media", _MEMORY)


class ResponseFile:
    """An answer in a file, which is erased with the last reference to it."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        weakref.finalize(self, path.unlink, missing_ok=True)


Body = bytes | ResponseFile


def has_many_values(body: bytes) -> bool:
    """Whether it would become very many objects, small as it is."""
    return len(body) > 2 * MAX_COMMAS and body.count(b",") > MAX_COMMAS


class LargeResponses:
    """Where large answers are received and read. For one process and one event loop.

    `folder` is cleared: what is in it was left by an earlier process.
    """

    def __init__(self, folder: Path, workers: WorkerPool) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        self._folder = folder
        self._workers = workers
        self._places = FairSemaphore(_AT_ONCE)
        self._space = DiskReservation(MAX_DISK_BYTES)

    async def receive(
        self,
        begun: bytes,
        chunks: AsyncIterator[bytes],
        status: int,
        within: asyncio.Timeout | None = None,
        most: int | None = None,
    ) -> ResponseFile:
        """What has come of a body and all that follows, in a file. NoResponse where it breaks off.

        `within` is the time of the whole request: it is stretched for as long as more comes.
        `most` is how much it may become, MAX_RESPONSE_BYTES if nothing is said.
        """
        if within is not None:
            within.reschedule(None)
        tenant, left = caller.current_tenant(), MAX_RESPONSE_BYTES if most is None else most
        await self._space.acquire(tenant, left)
        try:
            body = await self._received(begun, chunks, status, within)
            loop = asyncio.get_running_loop()
            weakref.finalize(body, release_later, loop, self._space, tenant, body.size)
            left -= body.size
        finally:
            self._space.release(tenant, left)
        return body

    async def _received(
        self,
        begun: bytes,
        chunks: AsyncIterator[bytes],
        status: int,
        within: asyncio.Timeout | None,
    ) -> ResponseFile:
        async with self._place(within):
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
                body.size = await _write_all(file, begun, chunks, status, within)
            finally:
                await asyncio.shield(asyncio.to_thread(file.close))
        return body

    @asynccontextmanager
    async def _place(self, within: asyncio.Timeout | None) -> AsyncIterator[None]:
        """A place among those that are received. The wait for it is no time of upstream's."""
        async with self._places.acquire(caller.current_tenant(), _MOST_WAITING):
            _stretch(within, asyncio.get_running_loop().time() + _LONGEST)
            yield

    async def prediction(self, body: Body) -> Prediction:
        """The prediction in a large answer. UnreadableResponse where none can be read."""
        file = await self._filed(body)
        places, document = await self._reduced(_PREDICTION, file)
        prediction = decode_prediction(document)
        if not prediction.status.is_terminal:
            return prediction  # There will be more of it, and the file need not be kept for that.
        is_over = file.size > MAX_OUTPUTS_KEPT
        found = {
            name: LargeValue(file, begin, end, entries, self, is_too_large=is_over)
            for name, (begin, end, entries) in places.items()
        }
        return replace(
            prediction,
            output=found.get("output", prediction.output),
            large_logs=found.get("logs"),
        )

    async def page(self, body: Body) -> PredictionPage:
        """The page of a list in a large answer, without outputs and logs."""
        return decode_page((await self._reduced(_PAGE, await self._filed(body)))[1])

    async def document(self, body: Body) -> bytes:
        """Any other large answer, without what is large in it and of no use."""
        return (await self._reduced(_DOCUMENT, await self._filed(body)))[1]

    async def _filed(self, body: Body) -> ResponseFile:
        if isinstance(body, ResponseFile):
            return body
        return await self.receive(body, _nothing(), 200, most=len(body))

    async def _reduced(self, task: Task, file: ResponseFile) -> tuple[dict[str, Any], bytes]:
        try:
            answer = await self._workers.run(
                task,
                os.fsencode(file.path),
                seconds=_REDUCE_SECONDS,
                tenant=caller.current_tenant(),
                max_waiting=_MOST_WAITING,
            )
        except (WorkerStartFailed, QueueFull, SystemFailure) as error:
            cause = f"reading the answer: {type(error).__name__}"
            raise UnreadableResponse(cause, is_temporary=True) from None
        except WorkerError as error:
            raise UnreadableResponse(f"reading the answer: {type(error).__name__}") from None
        places, _, document = answer.partition(b"\n")
        if not document:
            raise NoResponse("the answer is not JSON")
        return orjson.loads(places), document

    async def write_text(
        self, value: LargeValue, target: Path, prefix_size: int, prefix_sha256: str
    ) -> TextFile:
        """See LargeValue."""
        order = {"prefix_size": prefix_size, "prefix_sha256": prefix_sha256}
        found = await self._extracted(_TEXT, value, {"target": str(target), **order})
        if not found:
            raise ValueUnreadable("it is no text")
        return TextFile(found["size"], has_prefix=found["prefix"])

    async def write_json(self, value: LargeValue, target: Path, places: MediaLocations) -> JsonFile:
        """See LargeValue."""
        found = await self._extracted(_JSON, value, {"target": str(target), **_order(places)})
        return JsonFile(found["size"], tuple(_medium(one, target) for one in found["media"]))

    async def outline_media(self, value: LargeValue, places: MediaLocations) -> MediaOutline:
        """See LargeValue."""
        found = await self._extracted(_OUTLINE, value, _order(places))
        media = tuple(ExtractedMedium(one["uri"], is_file="file" in one) for one in found["media"])
        return MediaOutline(found["count"], found["value"], media)

    async def _extracted(
        self, task: Task, value: LargeValue, order: dict[str, Any]
    ) -> dict[str, Any]:
        body: ResponseFile = value.file
        order = {"path": str(body.path), "begin": value.begin, "end": value.end, **order}
        found: dict[str, Any] = orjson.loads(
            await self._extracted_by_worker(task, orjson.dumps(order))
        )
        return found

    async def _extracted_by_worker(self, task: Task, payload: bytes) -> bytes:
        """The answer, as soon as a worker can be had. Raises ValueUnreadable, OSError."""
        while True:
            try:
                return await self._workers.run(
                    task,
                    payload,
                    seconds=_EXTRACT_SECONDS,
                    tenant=caller.current_tenant(),
                    max_waiting=_MOST_WAITING,
                )
            except (WorkerStartFailed, QueueFull):
                await asyncio.sleep(_PAUSE)
            except SystemFailure as failed:
                raise OSError(failed.number, "a worker could not write it down") from None
            except WorkerError as error:
                raise ValueUnreadable(type(error).__name__) from None


def _order(places: MediaLocations) -> dict[str, Any]:
    return {"media": places.paths, "anywhere": places.anywhere, "typed": places.typed}


def _medium(found: dict[str, str], target: Path) -> ExtractedMedium:
    name = found.get("file")
    file = target.with_name(target.name + name) if name else None
    return ExtractedMedium(found["uri"], file, is_broken=name == "", is_file="file" in found)


def _create(path: Path) -> BinaryIO:
    return open(path, "xb", opener=_open_private)


def _discard(path: Path, creating: "asyncio.Future[BinaryIO]") -> None:
    """Of a file whose reader left while it was created nothing stays."""
    if creating.cancelled() or creating.exception() is not None:
        return
    creating.result().close()
    path.unlink(missing_ok=True)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


async def _write_all(
    file: BinaryIO,
    begun: bytes,
    chunks: AsyncIterator[bytes],
    status: int,
    within: asyncio.Timeout | None,
) -> int:
    """Everything into the file, a quarter of a MiB at a time; how much it was."""
    waiting, size, told = bytearray(begun), len(begun), 0
    until = asyncio.get_running_loop().time() + _LONGEST
    try:
        async for chunk in chunks:
            size += len(chunk)
            if size > MAX_RESPONSE_BYTES:
                raise UnreadableResponse("the answer is too large", http_status=status)
            waiting += chunk
            if len(waiting) >= _PIECE:
                await asyncio.to_thread(_write, file, bytes(waiting))
                waiting.clear()
                if size - told >= MIB:
                    told = size
                    _stretch(within, until)
    except (httpx.HTTPError, aiohttp.ClientError, ConnectionError):
        pass  # JSON says itself whether it is whole.
    except OSError:
        raise UnreadableResponse(_NOT_WRITTEN, http_status=status, is_temporary=True) from None
    try:
        await asyncio.to_thread(_write, file, bytes(waiting))
    except OSError:
        raise UnreadableResponse(_NOT_WRITTEN, http_status=status, is_temporary=True) from None
    return size


def _write(file: BinaryIO, data: bytes) -> None:
    """Not by the descriptor: a thread may come to it when whoever waited has left and closed it,
    and by then it may be that of another file, or somebody's connection.
    """
    file.write(data)
    file.flush()


def _stretch(within: asyncio.Timeout | None, until: float) -> None:
    if within is not None and not within.expired():
        within.reschedule(min(until, asyncio.get_running_loop().time() + _STALLED))


async def _nothing() -> AsyncIterator[bytes]:
    if False:
        yield b""
