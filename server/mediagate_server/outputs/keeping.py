"""Keeps what a generation made: from upstream's link, which dies within the hour, to our store."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import structlog

from mediagate_server import telemetry
from mediagate_server.errors import Failure
from mediagate_server.outputs import data_uri
from mediagate_server.outputs.facts import Looks, looks_of, media_type_of
from mediagate_server.outputs.fetching import Fetcher, FetchFailed
from mediagate_server.outputs.port import MediaFacts, MediaStore, StorageFailed, not_kept
from mediagate_server.outputs.spool import Incoming, OverLimit, Spool
from mediagate_server.store.records import StoredMedia

_log = structlog.get_logger()

LONGEST_SHOWN_URI: Final = 256 * 1024
"""A medium that came as a longer `data:` URI is shown by its kept copy alone: as a link it would
not fit into a message."""

_PAUSES: Final = (0.5, 2.0)
"""Seconds between the tries."""
_AT_ONCE: Final = 16
"""How many outputs are fetched at a time."""


def output_key(generation_id: str, index: int) -> str:
    """Where an output is kept."""
    return f"{outputs_key(generation_id)}/{index}"


def outputs_key(generation_id: str) -> str:
    """Where all outputs of a generation are kept."""
    return f"outputs/{generation_id}"


class OutputKeeper:
    """Keeps outputs. `max_bytes` and `timeout` (seconds, all tries of one output) are asked anew
    for each.
    """

    def __init__(
        self,
        store: MediaStore,
        spool: Spool,
        fetcher: Fetcher,
        *,
        max_bytes: Callable[[], int],
        timeout: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._spool = spool
        self._fetcher = fetcher
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._sleep = sleep
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def keep(
        self, generation_id: str, media: tuple[StoredMedia, ...]
    ) -> tuple[StoredMedia, ...]:
        """The media with what is known of them now; `failure` says why one is not kept.

        Never raises. What is kept already under the same name is written anew.
        """
        async with asyncio.TaskGroup() as tasks:
            keeping = [
                tasks.create_task(self._keep(output_key(generation_id, index), medium))
                for index, medium in enumerate(media)
            ]
        return tuple(task.result() for task in keeping)

    async def delete(self, generation_id: str) -> None:
        """Erase all that is kept of a generation. Raises StorageFailed."""
        await self._store.delete(outputs_key(generation_id))

    async def _keep(self, key: str, medium: StoredMedia) -> StoredMedia:
        async with self._places:
            outcome = await self._try(key, medium)
        telemetry.outputs.labels("failed" if isinstance(outcome, Failure) else "kept").inc()
        if isinstance(outcome, Failure):
            _log.warning("output not kept", output=key, cause=outcome.metadata["cause"])
            return replace(medium, failure=outcome)
        telemetry.output_bytes.inc(outcome.size)
        too_long = data_uri.is_data_uri(medium.uri) and len(medium.uri) > LONGEST_SHOWN_URI
        return replace(
            medium,
            uri="" if too_long else medium.uri,
            media_type=outcome.media_type,
            size=outcome.size,
            sha256=outcome.sha256,
            width=outcome.width,
            height=outcome.height,
            seconds=outcome.seconds,
            kept=True,
            failure=None,
        )

    async def _try(self, key: str, medium: StoredMedia) -> MediaFacts | Failure:
        """As often as may help."""
        try:
            async with asyncio.timeout(self._timeout()):
                for pause in (*_PAUSES, None):
                    try:
                        return await self._take(key, medium)
                    except FetchFailed as failed:
                        if pause is None or not failed.passing:
                            return not_kept(failed.cause)
                    except StorageFailed as failed:
                        if pause is None:
                            return failed.failure
                    except OverLimit as over:
                        return not_kept(f"it is over {over.limit:,} bytes")
                    except data_uri.BadDataUri:
                        return not_kept("its data URI cannot be read")
                    await self._sleep(pause)
        except TimeoutError:
            pass
        return not_kept("it took too long")

    async def _take(self, key: str, medium: StoredMedia) -> MediaFacts:
        """One try: fetch, look at it, store."""
        async with self._spool.incoming(self._max_bytes()) as incoming:
            declared = await self._receive(incoming, medium.uri)
            if not incoming.size:
                raise FetchFailed("the file is empty", passing=True)
            await incoming.finish()
            media_type = media_type_of(incoming.head, declared, medium.media_type)
            looks = await asyncio.to_thread(looks_of, incoming.path, media_type)
            facts = facts_of(incoming, media_type, looks)
            await self._store.put(key, incoming.path, {"media_type": media_type})
        return facts

    async def _receive(self, incoming: Incoming, uri: str) -> str:
        """Write the medium into the file; the type that it came with."""
        if data_uri.is_data_uri(uri):
            for piece in data_uri.pieces(uri):
                await incoming.write(piece)
            return data_uri.media_type(uri)
        async with self._fetcher.open(uri) as fetched:
            if fetched.size is not None and fetched.size > incoming.limit:
                raise OverLimit(incoming.limit)
            async for chunk in fetched.chunks:
                await incoming.write(chunk)
            return fetched.media_type


def facts_of(incoming: Incoming, media_type: str, looks: Looks) -> MediaFacts:
    """What is known of a file that has come whole."""
    return MediaFacts(
        incoming.size, incoming.sha256, media_type, looks.width, looks.height, looks.seconds
    )
