"""Large answers: received into files, and read by worker processes, so that none is ever an object.

An answer of upstream's holds what a model has put out, which may be anything. Up to 256 KiB it is
decoded where it arrives. Beyond that, or where it has very many values, it lies in a file from its
first bytes on; a worker cuts it down to what the gate reads (`json_reduction.py`), and what it
leaves out stays in the file as a `LargeValue` for whoever wants it.
"""

import asyncio
import os
import secrets
import shutil
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import aiohttp
import httpx
import orjson

from mediagate_server import caller
from mediagate_server.replacing import replace
from mediagate_server.replicate.decoding import decode_page, decode_prediction
from mediagate_server.replicate.disk_space import DiskSpace, give_back_later
from mediagate_server.replicate.port import (
    MOST_KEPT,
    LargeValue,
    MediaOutline,
    MediaPlaces,
    MediumFound,
    NoAnswer,
    Prediction,
    PredictionPage,
    TextFile,
    UnreadableAnswer,
    ValueFile,
    ValueUnreadable,
)
from mediagate_server.worker_processes import (
    MIB,
    FairPlaces,
    NotStarted,
    QueueFull,
    SystemFailed,
    Task,
    WorkerError,
    WorkerProcesses,
)

MOST_INLINE: Final = 256 * 1024
"""Bytes of an answer that is decoded where it arrives."""
MOST_COMMAS: Final = 20_000
MOST_READ: Final = 512 * MIB
"""Bytes of an answer that is read at all."""

MOST_ON_DISK: Final = 4 * 1024 * MIB
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
_MEMORY: Final = MOST_READ + 256 * MIB
_NOT_WRITTEN: Final = "it could not be written down"
_ROOM: Final = "mediagate_server.replicate"
_PREDICTION: Final = Task(f"{_ROOM}.json_reduction:reduce_prediction", _MEMORY)
_PAGE: Final = Task(f"{_ROOM}.json_reduction:reduce_page", _MEMORY)
_DOCUMENT: Final = Task(f"{_ROOM}.json_reduction:reduce_document", _MEMORY)
_TEXT: Final = Task(f"{_ROOM}.json_extraction:write_text", _MEMORY)
_JSON: Final = Task(f"{_ROOM}.json_extraction:write_json", _MEMORY)
_OUTLINE: Final = Task(f"{_ROOM}.json_extraction:outline_media", _MEMORY)


class BodyFile:
    """An answer in a file, which is erased with the last reference to it."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        weakref.finalize(self, path.unlink, missing_ok=True)


Body = bytes | BodyFile


def is_dense(body: bytes) -> bool:
    """Whether it would become very many objects, small as it is."""
    return len(body) > 2 * MOST_COMMAS and body.count(b",") > MOST_COMMAS


class LargeBodies:
    """Where large answers are received and read. For one process and one event loop.

    `folder` is cleared: what is in it was left by an earlier process.
    """

    def __init__(self, folder: Path, workers: WorkerProcesses) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        self._folder = folder
        self._workers = workers
        self._places = FairPlaces(_AT_ONCE)
        self._space = DiskSpace(MOST_ON_DISK)

    async def receive(
        self,
        begun: bytes,
        chunks: AsyncIterator[bytes],
        status: int,
        within: asyncio.Timeout | None = None,
        most: int | None = None,
    ) -> BodyFile:
        """What has come of a body and all that follows, in a file. NoAnswer where it breaks off.

        `within` is the time of the whole request: it is stretched for as long as more comes.
        `most` is how much it may become, MOST_READ if nothing is said.
        """
        if within is not None:
            within.reschedule(None)
        tenant, left = caller.tenant(), MOST_READ if most is None else most
        await self._space.take(tenant, left)
        try:
            body = await self._received(begun, chunks, status, within)
            loop = asyncio.get_running_loop()
            weakref.finalize(body, give_back_later, loop, self._space, tenant, body.size)
            left -= body.size
        finally:
            self._space.give_back(tenant, left)
        return body

    async def _received(
        self,
        begun: bytes,
        chunks: AsyncIterator[bytes],
        status: int,
        within: asyncio.Timeout | None,
    ) -> BodyFile:
        async with self._place(within):
            path = self._folder / secrets.token_hex(16)
            creating = asyncio.ensure_future(asyncio.to_thread(_create, path))
            try:
                file = await asyncio.shield(creating)
            except asyncio.CancelledError:
                creating.add_done_callback(partial(_discard, path))
                raise
            except OSError:
                raise UnreadableAnswer(_NOT_WRITTEN, is_passing=True) from None
            body = BodyFile(path, 0)
            try:
                body.size = await _write_all(file, begun, chunks, status, within)
            finally:
                await asyncio.shield(asyncio.to_thread(file.close))
        return body

    @asynccontextmanager
    async def _place(self, within: asyncio.Timeout | None) -> AsyncIterator[None]:
        """A place among those that are received. The wait for it is no time of upstream's."""
        async with self._places.place(caller.tenant(), _MOST_WAITING):
            _stretch(within, asyncio.get_running_loop().time() + _LONGEST)
            yield

    async def prediction(self, body: Body) -> Prediction:
        """The prediction in a large answer. UnreadableAnswer where none can be read."""
        file = await self._filed(body)
        places, document = await self._reduced(_PREDICTION, file)
        prediction = decode_prediction(document)
        if not prediction.status.is_terminal:
            return prediction  # There will be more of it, and the file need not be kept for that.
        is_over = file.size > MOST_KEPT
        found = {
            name: LargeValue(file, begin, end, entries, self, is_over=is_over)
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

    async def _filed(self, body: Body) -> BodyFile:
        if isinstance(body, BodyFile):
            return body
        return await self.receive(body, _nothing(), 200, most=len(body))

    async def _reduced(self, task: Task, file: BodyFile) -> tuple[dict[str, Any], bytes]:
        try:
            answer = await self._workers.run(
                task,
                os.fsencode(file.path),
                seconds=_REDUCE_SECONDS,
                tenant=caller.tenant(),
                most_waiting=_MOST_WAITING,
            )
        except (NotStarted, QueueFull, SystemFailed) as error:
            cause = f"reading the answer: {type(error).__name__}"
            raise UnreadableAnswer(cause, is_passing=True) from None
        except WorkerError as error:
            raise UnreadableAnswer(f"reading the answer: {type(error).__name__}") from None
        places, _, document = answer.partition(b"\n")
        if not document:
            raise NoAnswer("the answer is not JSON")
        return orjson.loads(places), document

    async def write_text(
        self, value: LargeValue, target: Path, prefix_size: int, prefix_sha256: str
    ) -> TextFile:
        """See LargeValue."""
        order = {"prefix_size": prefix_size, "prefix_sha256": prefix_sha256}
        found = await self._extracted(_TEXT, value, {"target": str(target), **order})
        if not found:
            raise ValueUnreadable("it is no text")
        return TextFile(found["size"], begins_so=found["prefix"])

    async def write_json(self, value: LargeValue, target: Path, places: MediaPlaces) -> ValueFile:
        """See LargeValue."""
        found = await self._extracted(_JSON, value, {"target": str(target), **_order(places)})
        return ValueFile(found["size"], tuple(_medium(one, target) for one in found["media"]))

    async def outline_media(self, value: LargeValue, places: MediaPlaces) -> MediaOutline:
        """See LargeValue."""
        found = await self._extracted(_OUTLINE, value, _order(places))
        media = tuple(MediumFound(one["uri"], is_file="file" in one) for one in found["media"])
        return MediaOutline(found["count"], found["value"], media)

    async def _extracted(
        self, task: Task, value: LargeValue, order: dict[str, Any]
    ) -> dict[str, Any]:
        body: BodyFile = value.file
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
                    tenant=caller.tenant(),
                    most_waiting=_MOST_WAITING,
                )
            except (NotStarted, QueueFull):
                await asyncio.sleep(_PAUSE)
            except SystemFailed as failed:
                raise OSError(failed.number, "a worker could not write it down") from None
            except WorkerError as error:
                raise ValueUnreadable(type(error).__name__) from None


def _order(places: MediaPlaces) -> dict[str, Any]:
    return {"media": places.paths, "anywhere": places.anywhere, "typed": places.typed}


def _medium(found: dict[str, str], target: Path) -> MediumFound:
    name = found.get("file")
    file = target.with_name(target.name + name) if name else None
    return MediumFound(found["uri"], file, is_broken=name == "", is_file="file" in found)


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
            if size > MOST_READ:
                raise UnreadableAnswer("the answer is too large", http_status=status)
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
        raise UnreadableAnswer(_NOT_WRITTEN, http_status=status, is_passing=True) from None
    try:
        await asyncio.to_thread(_write, file, bytes(waiting))
    except OSError:
        raise UnreadableAnswer(_NOT_WRITTEN, http_status=status, is_passing=True) from None
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
