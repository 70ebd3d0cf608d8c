"""Retention: erases a generation's inputs and outputs; what it cost stays."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NoReturn

import structlog

from mediagate_server.errors import Failure, GenerationNotFound, MediagateError, NotTerminal
from mediagate_server.generations.dependencies import EngineDeps
from mediagate_server.media.media_store import StorageFailed
from mediagate_server.runtime.notifier import Notifier
from mediagate_server.store.generations import StaleWrite
from mediagate_server.store.records import Generation, ListPosition
from mediagate_server.structs import replace

_AT_ONCE: Final = 100
_NAMED: Final = 20
"""How many a look names at most that could not be erased: a disk that is away is one trouble."""
_LOOK_EVERY: Final = 600.0
_TEXTS: Final = ("text", "safety")
_MEDIA: Final = ("image", "video", "audio", "raw")

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things are kept after their acceptance, in seconds; 0: for ever."""

    requests: float = 0.0
    texts: float = 0.0
    media: float = 0.0


def erase_content(record: Generation, now: datetime) -> Generation:
    """The next version: state, times, labels, attempts and costs; nothing of what was said."""
    return replace(
        record,
        version=record.version + 1,
        fingerprint="",
        parameters=(),
        seed=None,
        output=None,
        verdict=None,
        failure=record.failure and _without_words(record.failure),
        logs="",
        logs_document=None,
        step_outcomes=(),
        missing=tuple(replace(one, failure=_without_words(one.failure)) for one in record.missing),
        attempts=tuple(replace(attempt, input_hash="") for attempt in record.attempts),
        erased_at=now,
    )


def has_all_outputs(record: Generation, now: datetime) -> bool:
    """Whether all that it made is there, and to be read."""
    if record.erased_at or record.missing:
        return False
    media = record.output.media if record.output else ()
    document = record.output.document if record.output else None
    if document and not document.is_stored:
        return False
    return all(
        medium.is_stored or (medium.uri and (medium.expires_at is None or medium.expires_at > now))
        for medium in media
    )


def _without_words(failure: Failure) -> Failure:
    return Failure(failure.reason, "what was said of it is erased")


class RetentionJob:
    """Erases on request, and when the time has come. `retention` is read at each pass.

    `changed` gets the tenant of each generation that is erased, `forget` its record.
    """

    def __init__(
        self,
        deps: EngineDeps,
        retention: Callable[[], Retention],
        changed: Callable[[str], None],
        forget: Callable[[Generation], None] = lambda _: None,
    ) -> None:
        self._deps = deps
        self._retention = retention
        self._changed = changed
        self._forget = forget
        self._erasing: set[str] = set()

    def is_erasing(self, generation_id: str) -> bool:
        """Whether what is kept of it is being erased: its record still tells of it."""
        return generation_id in self._erasing

    async def erase(self, tenant: str, generation_id: str) -> None:
        """Nothing is left on return. GenerationNotFound, NotTerminal, StoreUnavailable or
        StorageFailed, after which it may be asked for again.
        """
        while True:
            record = await self._deps.store.get(tenant, generation_id)
            if record is None:
                raise GenerationNotFound(generation_id)
            if not record.state.is_terminal:
                raise NotTerminal(generation_id)
            if record.erased_at:
                return  # Nothing is left since then.
            try:
                await self._erase(record)
            except StaleWrite:
                continue  # Its cost has changed meanwhile.
            return

    async def run_forever(self) -> NoReturn:
        """Erase what is over its time, again and again. Ends by cancellation alone."""
        while True:
            try:
                if count := await self.erase_expired():
                    _log.info("expired_content_erased", count=count)
            except MediagateError as error:
                _log.warning("retention_pass_failed", error=type(error).__name__)
            await self._deps.clock.wait(Notifier(), _LOOK_EVERY)

    async def erase_expired(self) -> int:
        """Erase what is over its time; how many generations and requests there were.

        What cannot be erased is named in the log, keeps nothing else back, and is tried again the
        next time. StoreUnavailable ends it: that is no single one's trouble.
        """
        stored = self._retention()
        count = 0
        if stored.requests:
            count += await self._deps.store.history.forget_requests(self._before(stored.requests))
        for modalities, run in ((_TEXTS, stored.texts), (_MEDIA, stored.media)):
            if run:
                count += await self._clean(modalities, self._before(run))
        return count

    async def _clean(self, modalities: tuple[str, ...], before: datetime) -> int:
        """Each once, from the oldest on; how many were erased."""
        count = failures = 0
        after: ListPosition | None = None
        while True:
            found = await self._deps.store.history.find_expired(modalities, before, _AT_ONCE, after)
            for record in found:
                try:
                    await self._erase(record)
                except StorageFailed as failed:
                    failures += 1
                    if failures <= _NAMED:
                        cause = failed.failure.metadata["cause"]
                        _log.warning("expired_content_erase_failed", id=record.id, cause=cause)
                except StaleWrite:
                    _log.info("expired_content_erase_conflict", id=record.id)
                else:
                    count += 1
            if len(found) < _AT_ONCE:
                break
            # On from here: those that fail are still there, and would be found again and again.
            after = ListPosition(found[-1].created_at, found[-1].id)
        if failures:
            _log.warning("expired_content_erase_deferred", count=failures)
        return count

    async def _erase(self, record: Generation) -> None:
        # The media first: as long as the record tells of them, asking again erases what is left.
        self._erasing.add(record.id)
        try:
            await self._deps.archiver.delete(record.id)
            await self._deps.store.history.erase(erase_content(record, self._deps.clock.now()))
        finally:
            self._erasing.discard(record.id)
        self._forget(record)
        self._changed(record.tenant)

    def _before(self, run: float) -> datetime:
        return self._deps.clock.now() - timedelta(seconds=run)
