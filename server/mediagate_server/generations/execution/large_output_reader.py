"""Large outputs: read from upstream's answer after the settlement, and archived as documents.

The cost of a run is known before anybody has looked at its output. A text is then written to a file
by a worker process; so is any other JSON, with its links lifted out. Of a text up to 256 KiB only
the text is left of that; a longer one is archived beside the media, in full.
"""

import asyncio
import codecs
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from msgspec import Struct

from mediagate_server.catalog.models.model import OutputKind
from mediagate_server.errors import Failure, StoredFailure
from mediagate_server.generations.dependencies import EngineDeps, MediaArchiver
from mediagate_server.generations.outputs.media_discovery import (
    count_of_kind,
    fill_missing,
    find_media,
    to_medium,
    to_output,
)
from mediagate_server.generations.streaming.text_buffer import TextBuffer, TextChunk, stream_expired
from mediagate_server.generations.transitions import failures
from mediagate_server.generations.transitions.outcome import TEXTS, clamp_time
from mediagate_server.generations.transitions.step_spec import StepSpec
from mediagate_server.media.media_store import archive_failure, document_key
from mediagate_server.media.output_archiver import UPSTREAM_LINK_LIFETIME
from mediagate_server.runtime import crash_marks
from mediagate_server.runtime.notifier import Notifier
from mediagate_server.store.records import Output, StoredMedia
from mediagate_server.structs import replace
from mediagate_server.upstream.documents.json_extraction import MAX_OUTLINE_BYTES
from mediagate_server.upstream.documents.json_parser import parse_json
from mediagate_server.upstream.documents.media_references import ANY_STEP
from mediagate_server.upstream.large_values import (
    ExtractedMedium,
    LargeValue,
    MediaLocations,
    ValueUnreadable,
)
from mediagate_server.upstream.port import (
    NoResponse,
    Prediction,
    PredictionStatus,
    RefusalReason,
    RequestRefused,
)
from mediagate_server.workers.system_errors import is_system_error

_log = structlog.get_logger()
_T = TypeVar("_T")

MAX_INLINE_OUTPUT_BYTES: Final = 256 * 1024
"""Bytes of a text that is part of its record."""
_HEAD: Final = 64 * 1024
"""Bytes of a longer one that are."""
_MOST_CHECKED: Final = 4 * 1024 * 1024
"""Bytes of a text that is to be JSON."""
_DEEPEST_MEDIUM: Final = 4
"""Levels of lists and objects below which an address is a medium by its host only."""
_MOST_ENTRIES: Final = 20_000
_PLACE: Final = re.compile(r"media:([0-9]{1,9})")
_PIECE: Final = 256 * 1024
_PAUSE: Final = 5.0
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0
_TEXT, _JSON = "text/plain", "application/json"


_Located = tuple[StoredMedia, ExtractedMedium]
"""A medium of an output, and where it was found."""


class LargeOutputResult(Struct, frozen=True):
    """What was read. `broken`: callers were sent a text that it does not begin with.
    `has_unsent_text`: they were sent a beginning of its document at the most, and are to read on
    there.
    """

    output: Output | None = None
    failure: Failure | None = None
    logs_document: StoredMedia | None = None
    broken: bool = False
    has_unsent_text: bool = False


class LargeOutputReader:
    """Reads what is pending of one step. `output` is what there is of it already.

    `streamed` is what callers were sent of its text, and gets the rest; `clean`: that stream came
    to its own end. `streams`: somebody may ask for the rest. `first_index` is where its first
    medium stands among several.
    """

    def __init__(
        self,
        deps: EngineDeps,
        spec: StepSpec,
        output: Output | None,
        streamed: TextBuffer,
        *,
        clean: bool,
        streams: bool,
        first_index: int = 0,
    ) -> None:
        self._deps = deps
        self._archiver = deps.archiver
        self._spec = spec
        self._output = output
        self._streamed = streamed
        self._clean = clean
        self._streams = streams
        self._first_index = first_index

    async def read(self, answer: Prediction | None) -> LargeOutputResult:
        """All of it. `answer` None: it was lost with an earlier process, and is fetched again."""
        answer = answer or await self._ask_again()
        if answer is None:
            return LargeOutputResult(failure=archive_failure("upstream does not have it any more"))
        result = LargeOutputResult(output=replace(self._output or Output(), pending=False))
        value = answer.output
        if isinstance(value, LargeValue):
            try:
                read = await self._retry(lambda: self._read_output(answer, value))
                result = read or LargeOutputResult(
                    failure=archive_failure("the disk does not take it")
                )
            except ValueUnreadable:
                result = LargeOutputResult(failure=self._too_large(answer, "it could not be read"))
        elif result.output in (None, Output()) and answer.large_logs is None:
            # Were there logs still, there would be an output: a run may have none.
            return LargeOutputResult(failure=archive_failure("upstream does not have it any more"))
        if answer.large_logs is not None and not answer.large_logs.is_too_large:
            logs = answer.large_logs
            document = await self._retry(lambda: self._read_logs(logs))
            result = replace(result, logs_document=document)
        return result

    async def _retry(self, read: Callable[[], Awaitable[_T]]) -> _T | None:
        """What is read, as soon as the disk takes it; None: it has not for as long as outputs are
        tried to be kept.
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                return await read()
            except OSError as error:
                if not is_system_error(error):
                    raise
                _log.warning("large_output_not_written", id=self._spec.id, errno=error.errno)
            if self._deps.clock.now() >= self._until():
                return None
            await self._deps.clock.wait(Notifier(), pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _until(self) -> datetime:
        """When half of the time is over that upstream keeps outputs for."""
        ended_at = self._spec.attempt.completed_at or self._deps.clock.now()
        return ended_at + UPSTREAM_LINK_LIFETIME / 2

    async def _read_output(self, answer: Prediction, value: LargeValue) -> LargeOutputResult:
        if value.is_too_large:
            return LargeOutputResult(failure=self._too_large(answer, "it is too large"))
        kind = self._spec.shape["kind"]
        if kind in TEXTS or kind == OutputKind.JSON_TEXT:
            async with self._archiver.scratch_file() as path:
                if kind == OutputKind.JSON_TEXT:
                    return await self._read_checked(answer, value, path)
                return await self._read_text(value, path)
        return await self._read_value(answer, value)

    async def _read_text(self, value: LargeValue, path: Path) -> LargeOutputResult:
        streamed = self._streamed
        # Off the loop: it may be as long as the text itself.
        prefix = await asyncio.to_thread(streamed.sha256)
        size = streamed.sequence
        file = await value.write_text(path, prefix_size=size, prefix_sha256=prefix)
        begins_so = not size or file.has_prefix
        broken = not begins_so
        if broken and self._clean:
            broken = not await asyncio.to_thread(_is_alike, path, list(streamed.pieces()))
        if file.size <= MAX_INLINE_OUTPUT_BYTES:
            if self._streams and begins_so:
                await self._stream_rest(path)
            text = await asyncio.to_thread(_text, path)
            return LargeOutputResult(output=Output(text=text), broken=broken)
        head = await asyncio.to_thread(_head, path)
        document = await self._archive("output", path, _TEXT)
        output = Output(text=head, document=document)
        return LargeOutputResult(output=output, broken=broken, has_unsent_text=begins_so)

    async def _read_checked(
        self, end: Prediction, value: LargeValue, path: Path
    ) -> LargeOutputResult:
        """A text that is to be JSON: streamed once it is seen to be."""
        file = await value.write_text(path, prefix_size=0, prefix_sha256="")
        if file.size > _MOST_CHECKED:
            return LargeOutputResult(failure=self._too_large(end, "it is too large to be checked"))
        answer = await asyncio.to_thread(_text, path)
        schema, tenant = self._spec.shape["field"], self._spec.tenant
        reading = await self._deps.read_json_answer(answer, schema, tenant)
        if reading.problem:
            prediction_id = self._spec.attempt.prediction_id
            failure = failures.output_invalid(self._spec.model, prediction_id, reading.problem)
            return LargeOutputResult(failure=failure)
        await asyncio.to_thread(path.write_bytes, reading.text.encode())
        if self._streams and not self._streamed.sequence:
            await self._stream_rest(path)
        if len(reading.text.encode()) <= MAX_INLINE_OUTPUT_BYTES:
            return LargeOutputResult(output=Output(text=reading.text))
        head = await asyncio.to_thread(_head, path)
        return LargeOutputResult(
            output=Output(text=head, document=await self._archive("output", path, _TEXT))
        )

    async def _stream_rest(self, path: Path) -> None:
        """What callers do not have yet, a piece at a time."""
        pieces = _pieces(path, self._streamed.sequence)
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            self._streamed.append(piece)

    async def _read_value(self, answer: Prediction, value: LargeValue) -> LargeOutputResult:
        async with self._archiver.scratch_file() as path:
            file = await value.write_json(path, media_locations(self._spec))
            if self._spec.modality == "raw":
                media = await self._media(answer, file.media)
                return LargeOutputResult(output=await self._raw(value, file.size, path, media))
            content = None
            if file.size <= MAX_OUTLINE_BYTES and value.entries <= _MOST_ENTRIES:
                content = await asyncio.to_thread(path.read_bytes)
            with crash_marks.crash_marked():
                located = _locate_media(self._spec, content, file.media, self._ended_at(answer))
            archived = await self._archive_files(located)
        model = self._spec.model
        if archived:
            media = fill_missing(archived, failures.output_missing(model, answer))
            return LargeOutputResult(output=Output(media=media))
        return LargeOutputResult(failure=failures.output_lost(model, answer))

    async def _raw(
        self, value: LargeValue, size: int, path: Path, media: tuple[StoredMedia, ...]
    ) -> Output:
        """What is small without its media is shown as it would have been at once."""
        if size <= MAX_INLINE_OUTPUT_BYTES and value.entries <= _MOST_ENTRIES:
            content = await asyncio.to_thread(path.read_bytes)
            with crash_marks.crash_marked(), suppress(NoResponse):
                return to_output(parse_json(content), media)
        return Output(media=media, document=await self._archive("output", path, _JSON))

    def _ended_at(self, answer: Prediction) -> datetime:
        now = self._deps.clock.now()
        return clamp_time(self._spec, answer.completed_at, now) or now

    async def _media(
        self, answer: Prediction, extracted: tuple[ExtractedMedium, ...]
    ) -> tuple[StoredMedia, ...]:
        """The media of a raw output, those that came as long data URIs archived already."""
        ended_at, expected = self._ended_at(answer), self._spec.shape["media_type"]
        located = [(to_medium(source.uri, expected, ended_at), source) for source in extracted]
        return tuple(medium for medium in await self._archive_files(located) if medium)

    async def _archive_files(
        self, located: Sequence[_Located | None]
    ) -> tuple[StoredMedia | None, ...]:
        """The media, those that lie in files archived already; None for what is missing."""
        media: list[StoredMedia | None] = []
        for index, entry in enumerate(located, self._first_index):
            if entry is None:
                media.append(None)
                continue
            medium, source = entry
            if source.is_broken:
                failure = archive_failure("its data URI cannot be read")
                medium = replace(medium, uri="", failure=failure)
            elif source.file is not None:
                declared, expected = medium.media_type, self._spec.shape["media_type"]
                medium = await self._archiver.archive_file(
                    self._spec.id, index, source.file, declared, expected
                )
            media.append(medium)
        return tuple(media)

    async def _read_logs(self, value: LargeValue) -> StoredMedia | None:
        async with self._archiver.scratch_file() as path:
            try:
                await value.write_text(path, prefix_size=0, prefix_sha256="")
            except ValueUnreadable:
                return None
            return await self._archive("logs", path, _TEXT)

    async def _archive(self, name: str, path: Path, media_type: str) -> StoredMedia:
        key = document_key(self._spec.id, name)
        return await self._archiver.archive_document(key, path, media_type)

    async def _ask_again(self) -> Prediction | None:
        """Upstream's answer once more; None where it has none any more, or for too long."""
        attempt, until = self._spec.attempt, self._until()
        while self._deps.clock.now() < until:
            try:
                answer = await self._deps.upstream.get(attempt.prediction_id, model=attempt.model)
            except RequestRefused as refused:
                if refused.refusal is RefusalReason.NOT_FOUND:
                    return None
            except NoResponse:
                pass
            else:
                return answer if answer.status is PredictionStatus.SUCCEEDED else None
            await self._deps.clock.wait(Notifier(), _PAUSE)
        return None

    def _too_large(self, end: Prediction, cause: str) -> Failure:
        return failures.output_too_large(self._spec.model, end, cause)


def media_locations(spec: StepSpec) -> MediaLocations:
    """Where media are in its output, by the same rule as in one that is decoded at once."""
    shape = spec.shape
    if spec.modality == "raw":
        paths = tuple(map(tuple, json.loads(shape["field"])))
        return MediaLocations(paths, anywhere=True)
    places = tuple((ANY_STEP,) * depth for depth in range(_DEEPEST_MEDIUM + 1))
    return MediaLocations(places, anywhere=True, typed=True)


def _locate_media(
    spec: StepSpec,
    content: bytes | None,
    media: tuple[ExtractedMedium, ...],
    ended_at: datetime,
) -> tuple[_Located | None, ...]:
    """The media in an output with `media:N` in their places, as they are found in a small one.

    `content` None: it is too large without them to be looked at; then they are all there are.
    """
    shape, asked = spec.output_shape, spec.requested_outputs
    if content is not None:
        with suppress(NoResponse):
            # What lies in a file has only the head of its data URI, which others may have, too.
            uris = [
                f"{each.uri}{at}" if each.is_file else each.uri for at, each in enumerate(media)
            ]
            value = _with_uris(parse_json(content), uris)
            sources = dict(zip(uris, media, strict=True))
            return tuple(
                (medium, sources.get(medium.uri, ExtractedMedium(medium.uri))) if medium else None
                for medium in find_media(value, shape, ended_at, asked)
            )
    located = [(to_medium(each.uri, shape.media_type, ended_at), each) for each in media]
    missing = max(asked - len(located), 0) if located else 0
    return (*located, *[None] * missing)


def _with_uris(value: Any, uris: Sequence[str]) -> Any:
    if isinstance(value, str):
        place = _PLACE.fullmatch(value)
        at = int(place[1]) if place else len(uris)
        return uris[at] if at < len(uris) else value
    if isinstance(value, list):
        return [_with_uris(item, uris) for item in value]
    if isinstance(value, dict):
        return {key: _with_uris(item, uris) for key, item in value.items()}
    return value


async def count_media(spec: StepSpec, end: Prediction | None) -> int | None:
    """How many media there are in a large output, for a price that goes by them.

    None: nobody can tell. 0 where it has none, or is not large.
    """
    value = end.output if end else None
    if not isinstance(value, LargeValue) or spec.modality in ("safety", "text"):
        return 0
    if spec.shape["kind"] in TEXTS or spec.shape["kind"] == OutputKind.JSON_TEXT:
        return 0
    try:
        outline = await value.outline_media(media_locations(spec))
    except ValueUnreadable:
        return None
    if spec.modality == "raw" or outline.value is None or value.entries > _MOST_ENTRIES:
        return outline.count
    with crash_marks.crash_marked():
        located = _locate_media(spec, outline.value.encode(), outline.media, spec.created_at)
    media = [entry[0] for entry in located if entry]
    return count_of_kind(media, spec.output_shape.media_type.partition("/")[0])


async def stored_text(
    archiver: MediaArchiver, key: str, document: StoredMedia, after: int
) -> AsyncIterator[TextChunk]:
    """An archived text, from a byte on, as it would have been streamed.

    StreamExpired where the byte is beyond its end or within a letter.
    """
    size = document.size or 0
    if document.failure:
        raise StoredFailure(document.failure)
    if after > size:
        raise stream_expired(after, size)
    decoder, reached = codecs.getincrementaldecoder("utf-8")(), after
    async for data in archiver.read_document(key, after, size - after):
        reached += len(data)
        try:
            text = decoder.decode(data)
        except UnicodeDecodeError:
            raise stream_expired(after, size) from None
        waiting = len(decoder.getstate()[0])
        yield TextChunk(reached - waiting, text)


def answer_file_size(answer: Prediction | None) -> int:
    """Bytes of the file that an answer keeps on the disk."""
    values = (answer.output, answer.large_logs) if answer else ()
    return max((value.file.size for value in values if isinstance(value, LargeValue)), default=0)


def is_large(answer: Prediction | None) -> bool:
    """Whether something of it lies in a file still."""
    return answer is not None and (
        isinstance(answer.output, LargeValue) or answer.large_logs is not None
    )


def _text(path: Path) -> str:
    """All of a text, with the ends of its lines as they are."""
    return path.read_bytes().decode()


def _head(path: Path) -> str:
    """The beginning of a long text, complete characters."""
    with path.open("rb") as file:
        return codecs.getincrementaldecoder("utf-8")().decode(file.read(_HEAD))


def _pieces(path: Path, begin: int) -> Iterator[str]:
    """The text from a byte on."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with path.open("rb") as file:
        file.seek(begin)
        while data := file.read(_PIECE):
            yield decoder.decode(data)


def _is_alike(path: Path, streamed: list[str]) -> bool:
    """Whether two texts are the same but for white space, which streams are careless with."""
    return _without_space(_pieces(path, 0)) == _without_space(iter(streamed))


def _without_space(pieces: Iterator[str]) -> bytes:
    """A digest of all that is no white space."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update("".join(piece.split()).encode())
    return digest.digest()
