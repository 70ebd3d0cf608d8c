"""Runs that are being recorded: each is followed to its end, and its output files are kept.

What the clients do not ask for is asked here, so that every recorded run can be replayed whole: the
last state of a prediction, and its files before their links expire.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from mediagate_sandbox.broadcast_event import BroadcastEvent
from mediagate_sandbox.cassettes.cassette_file import MediaFolder
from mediagate_sandbox.cassettes.links import LinkTable, output_links
from mediagate_sandbox.cassettes.requests import TERMINAL_STATUSES
from mediagate_sandbox.cassettes.run_schemas import RunSchema
from mediagate_sandbox.cassettes.upstream_client import Download, DownloadRefused, UpstreamClient

log = logging.getLogger("mediagate.sandbox")

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_LAST_PAUSES = (0.0, 0.1, 0.3, 0.6)
"""Seconds before each of the last looks at runs that have not ended, when the recorder stops."""

NOT_RECORDED = 502
"""Status of a download that failed here: its client is sent to the real link."""


@dataclass(slots=True)
class RecordedRun:
    """One prediction that was created while recording."""

    id: str
    schema: RunSchema
    headers: Mapping[str, str]
    """Those of its create: what is asked on its behalf is asked with the same token."""
    private: frozenset[str]
    """Strings of its input that may be secret."""
    has_ended: bool = False
    changed: BroadcastEvent = field(default_factory=BroadcastEvent)
    seen: int = 0
    """How many of its states have passed through."""


class OutputDownloads:
    """Downloads of output files, each once."""

    def __init__(
        self,
        client: UpstreamClient,
        links: LinkTable,
        media: MediaFolder,
        record: Callable[[str, Download], None],
        spawn: Callable[..., asyncio.Task[Any]],
    ) -> None:
        """`record` is called with each file's recorded link as it is there."""
        self._client = client
        self._links = links
        self._media = media
        self._record = record
        self._spawn = spawn
        self._tasks: dict[str, asyncio.Task[Download]] = {}

    def add(self, links: list[str]) -> list[str]:
        """Begin to download what may be; the recorded form of those links."""
        added = []
        for link in links:
            if not self._client.may_download(link):
                log.warning("an output is not recorded: its link is not https to a public host")
                continue
            recorded = self._links.add(link)
            added.append(recorded)
            if recorded not in self._tasks:
                self._tasks[recorded] = self._spawn(self._download(link, recorded))
        return added

    async def wait(self, recorded: str) -> Download | None:
        """Wait for a file; None if it is none of these."""
        task = self._tasks.get(recorded)
        return None if task is None else await asyncio.shield(task)

    async def wait_for_all(self) -> None:
        """Wait for all that are under way."""
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    async def _download(self, link: str, recorded: str) -> Download:
        try:
            download = await self._client.download(link, self._media)
        except (aiohttp.ClientError, OSError, DownloadRefused) as failure:
            log.warning("an output could not be recorded: %s", type(failure).__name__)
            download = Download(NOT_RECORDED, {}, None)
        self._record(recorded, download)
        return download


class RecordedRuns:
    """All runs of one recording."""

    def __init__(
        self,
        look: Callable[[RecordedRun], Awaitable[None]],
        spawn: Callable[..., asyncio.Task[Any]],
    ) -> None:
        """`look` asks upstream for a run's state, and records the answer."""
        self._look = look
        self._spawn = spawn
        self._runs: dict[str, RecordedRun] = {}

    def find(self, prediction_id: str) -> RecordedRun | None:
        """Find a run that was created while recording."""
        return self._runs.get(prediction_id)

    def add(
        self, document: Mapping[str, Any], schema: RunSchema, headers: Mapping[str, str]
    ) -> None:
        """Add the run of a prediction, unless it is known, and follow it to its end."""
        prediction_id = document["id"]
        if prediction_id in self._runs:
            return
        private = frozenset(schema.secrets(document.get("input")))
        run = RecordedRun(prediction_id, schema, headers, private)
        self._runs[prediction_id] = run
        self._spawn(self._follow(run))

    def observe(self, document: Mapping[str, Any]) -> None:
        """Notice a state of a run."""
        run = self._runs.get(str(document.get("id")))
        if run is not None:
            run.seen += 1
            run.has_ended |= document.get("status") in TERMINAL_STATUSES
            run.changed.notify()

    def hurry(self, prediction_id: str) -> None:
        """Ask for the state of a run whose stream has ended, unless it is known to have ended."""
        run = self._runs.get(prediction_id)
        if run is not None and not run.has_ended:
            self._spawn(self._look(run))

    async def look_at_unended(self) -> None:
        """Ask for the state of each run that is not known to have ended, a few times."""
        for pause in _LAST_PAUSES:
            unended = [run for run in self._runs.values() if not run.has_ended]
            if not unended:
                return
            await asyncio.sleep(pause)
            await asyncio.gather(*(self._look(run) for run in unended))

    async def _follow(self, run: RecordedRun) -> None:
        """Ask now and then, unless the clients do."""
        pause = _FIRST_PAUSE
        while not run.has_ended:
            seen = run.seen
            try:
                async with asyncio.timeout(pause):
                    while not run.has_ended:
                        await run.changed.wait()
            except TimeoutError:
                pass
            if run.has_ended:
                return
            if run.seen == seen:
                await self._look(run)
                pause = min(2 * pause, _LONGEST_PAUSE)


def links_of(document: Mapping[str, Any], schema: RunSchema) -> list[str]:
    """Return the links to output files in a prediction."""
    return [] if schema.is_text else output_links(document.get("output"))
