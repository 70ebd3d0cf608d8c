"""Dependencies of the engine: store, upstream, archiver, clock, timeouts and what is configured."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

from mediagate_server.generations.outputs.json_validation_process import (
    ReadJsonAnswer,
    read_in_process,
)
from mediagate_server.generations.run_durations import RunDurations
from mediagate_server.runtime import identifiers
from mediagate_server.runtime.clock import Clock, SystemClock
from mediagate_server.runtime.crash_marks import CrashMarks
from mediagate_server.store.port import Store
from mediagate_server.store.records import StoredMedia
from mediagate_server.upstream.policies.create_admission import CreateAdmission
from mediagate_server.upstream.port import CreateReservation, Upstream

MIN_RUN_SECONDS: Final = 5.0
"""Seconds: the shortest `Cancel-After` that Replicate takes."""

MAX_ATTEMPTS: Final = 6
"""Creates that one output of a generation may be sent with, over all its models; those apart that
were answered 429."""


NO_RESERVATIONS: Final[Mapping[str, CreateReservation]] = MappingProxyType({})
"""Of a generation that this process has not accepted."""


class MediaArchiver(Protocol):
    """Archive of outputs, which upstream deletes within the hour."""

    async def archive(
        self,
        generation_id: str,
        media: tuple[StoredMedia, ...],
        ended_at: datetime,
        *,
        may_exist: bool = False,
    ) -> tuple[StoredMedia, ...]:
        """The same media as they are now, archived or with the reason why not.

        Never fails, and may take half of the time that upstream keeps them from `ended_at` on.
        `may_exist`: an earlier process may have stored some of them.
        """
        ...

    async def delete(self, generation_id: str) -> None:
        """Delete all that is archived of a generation. Raises errors.MediagateError."""
        ...

    def scratch_file(self) -> AbstractAsyncContextManager[Path]:
        """A path at which a document may be written before it is archived; deleted at the end.

        So are all files whose names begin with that path's.
        """
        ...

    async def archive_document(self, key: str, path: Path, media_type: str) -> StoredMedia:
        """Archive what was written there, or say why not. Never fails."""
        ...

    async def archive_file(
        self, generation_id: str, index: int, path: Path, declared: str, expected: str
    ) -> StoredMedia:
        """Archive an output that lies in a file, or say why not. Never fails.

        `declared` is the type that it came with, `expected` the one to expect.
        """
        ...

    def read_document(self, key: str, offset: int, length: int) -> AsyncIterator[bytes]:
        """Bytes of an archived document. Raises errors.MediagateError."""
        ...


@dataclass(frozen=True, slots=True)
class EngineTimeouts:
    """How long things may take. Seconds.

    `post_timeout` is how long a create waits for its answer. An attempt in doubt can only be
    declared absent `absent_margin` after that, and then by two sweeps; one that upstream's API has
    answered with an error of its own already by two, the last `api_error_margin` after the answer.
    Every `sweep` seconds what is in doubt is looked for in upstream's list, for the first time
    `first_sweep` after it came into doubt. A create is only sent while the lease of the store lasts
    for `lease_margin` more. Every `reconcile` seconds the ledger is compared with that list; 0:
    never.
    """

    post_timeout: float = 30.0
    absent_margin: float = 60.0
    api_error_margin: float = 20.0
    sweep: float = 30.0
    first_sweep: float = 1.0
    lease_margin: float = 0.2
    reconcile: float = 0.0


def no_webhook_url(_attempt_id: str) -> str | None:
    """No webhooks are asked of upstream: everything is found by polling."""
    return None


@dataclass(frozen=True, slots=True)
class EngineDeps:
    """Dependency container: what every generation works with.

    `account` names the upstream account; `is_account_exclusive`: nobody else uses it, so that a
    prediction in its list that no attempt has must be ours. `is_playback`: it plays recordings
    back, so that one prediction may answer many creates. `is_sandbox`: the embedded sandbox
    answers. `webhook_url` gives the URL for upstream's webhooks about one attempt, or None.
    `new_token` makes the unguessable part of ids. `read_json_answer` reads answers that must be
    JSON. `crash_marks` record whose data a process died of; None: nothing does. `hash_key` is what
    hashes of inputs are keyed with, so that guesses cannot be tried out on them.
    `creates_per_second` is the account's steady rate, from which the time of a queued send is
    estimated. `run_durations` has how long earlier runs took.
    """

    store: Store
    upstream: Upstream
    admission: CreateAdmission
    archiver: MediaArchiver
    account: str = "default"
    is_account_exclusive: bool = True
    is_playback: bool = False
    is_sandbox: bool = False
    clock: Clock = field(default_factory=SystemClock)
    timeouts: EngineTimeouts = field(default_factory=EngineTimeouts)
    webhook_url: Callable[[str], str | None] = no_webhook_url
    new_token: Callable[[], str] = identifiers.new_token
    creates_per_second: float = 10.0
    read_json_answer: ReadJsonAnswer = read_in_process
    crash_marks: CrashMarks | None = None
    hash_key: bytes = b""
    run_durations: RunDurations = field(default_factory=RunDurations)
