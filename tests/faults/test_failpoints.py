"""A server dies at each place that has a name; the next one ends what was begun, paid once.

What upstream had taken is adopted within two sweeps; what it had not is released by the rule.
"""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from mediagate.v1 import generation_pb2
from mediagate_sandbox.control_client import SandboxControl
from mediagate_server.runtime import failpoints
from mediagate_server.runtime.failpoints import FAILPOINT_NAMES
from mediagate_server.upstream.port import RefusalReason
from tests.sandbox_process import UNLIMITED, running_sandbox

from .crashing_process import CrashingProcess
from .delaying_proxy import DelayingProxy
from .ledger_book import LedgerBook, check_books
from .media_locations import FOLDER, MediaLocation
from .retrying_caller import CallerRecord, RetryingCaller
from .sample_requests import SampleRequest, film, named, picture, text

Tried = generation_pb2.Attempt

SURE_AT_ONCE: Final = {
    "MEDIAGATE_UPSTREAM_CONNECT_TIMEOUT": "0.9",
    "MEDIAGATE_UPSTREAM_CREATE_TIMEOUT": "1",
    "MEDIAGATE_ABSENT_MARGIN": "0.5",
    "MEDIAGATE_SWEEP_SECONDS": "0.2",
    # Whatever asks for upstream's list is a sweep then: they are counted.
    "MEDIAGATE_RECONCILE_SECONDS": "0",
}
TRIES: Final = 10
SILENT: Final = {"do": "lose_webhook"}
LOST: Final = {"do": "lose_answer", "on": "create", "times": 1}
THROTTLED: Final = {"do": "throttle", "on": "create", "times": 1}
REFUSED: Final = {"do": "error", "on": "create", "status": 422, "at": "request", "times": 1}

FAULTS: Final[dict[str, dict[str, Any]]] = {
    "unconfirmed": LOST,
    "adopt": LOST,
    "reopen": THROTTLED,
    "submitting": THROTTLED,
    "unsent": REFUSED,
}
"""What has to go wrong for a server to come by a place."""

ADOPTED: Final = (
    "after_answer",
    "while_decoding",
    "before_accepted",
    "before_unconfirmed",
    "after_unconfirmed",
    "before_adopt",
)
"""Upstream took it, and the store does not know."""
REPORTED: Final = (
    "after_accepted",
    "after_adopt",
    "while_settling",
    "before_settle",
    "after_settle",
    "before_keep",
    "after_keep",
    "before_cancel",
    "after_cancel",
    "before_checkpoint",
    "after_checkpoint",
)
"""Upstream took it, and the store knows, or nobody has to."""
ABSENT: Final = ("after_accept", "before_send", "after_submitting", "before_unsent")
"""The right to send is durable, and nothing was taken."""
OTHERS: Final = (
    "before_accept",
    "after_send",
    "before_reopen",
    "after_reopen",
    "before_submitting",
    "after_unsent",
)
WRITING: Final = {"commit", "_commit", "_commit_end", "update_async"}
"""What is called with the name of a step."""
OVERRUN: Final = ("before_overrun", "after_overrun")
"""Upstream makes what it was declared not to have, once another attempt has done the work."""


KEEPING: Final = ("before_keep", "after_keep")
"""Where an output is, or is about to be, kept; with or without the record saying so."""


def sample_for(name: str, random: Random, number: int) -> SampleRequest:
    """A call by which a server comes by a place."""
    words = f"{name} {number} {random.getrandbits(64):x}"
    match name.partition("_")[2]:
        case "keep":
            return named(random, picture(words))
        case "cancel":
            return named(random, film(f"[[hang]] {words}", cancelled=True))
        case "checkpoint":
            return named(random, text(f"[[tokens=150 interval_ms=20]] {words}", streamed=True))
        case _:
            return named(random, text(words, streamed=random.random() < 0.5))


@dataclass
class Chain:
    """Servers on one folder, each of which dies at the next place."""

    process: CrashingProcess
    sandbox: SandboxControl
    faithful: RetryingCaller
    random: Random
    records: list[CallerRecord] = field(default_factory=list)

    async def die_at(self, name: str) -> CallerRecord:
        """A call, a death in it, and the next server, which answers it.

        Where one commit takes another along, a server may pass a place by: then it is tried again.
        """
        faults = [SILENT]
        if fault := FAULTS.get(name.partition("_")[2]):
            faults.append(fault)
        for _ in range(TRIES):
            await asyncio.to_thread(self.sandbox.faults, *faults)
            self.process.start(name)
            sample = sample_for(name, self.random, len(self.records))
            call = asyncio.create_task(self.faithful.call(sample))
            dead = asyncio.create_task(self.process.until_dead())
            await asyncio.wait({call, dead}, return_when=asyncio.FIRST_COMPLETED)
            passed_by = call.done()
            if passed_by:
                await self.process.kill()
            await dead
            if not passed_by:
                self.process.start()
            self.records.append(await call)
            if not passed_by:
                return self.records[-1]
        raise AssertionError(f"it was never at {name}")

    async def sweeps(self) -> int:
        """How often upstream's list was asked for."""
        state = await asyncio.to_thread(self.sandbox.state)
        return int(state["requests"].get("GET /v1/predictions", 0))


def attempts_of(record: CallerRecord) -> list[int]:
    """How the attempts of a call ended of which upstream can have seen anything.

    On a busy machine half a second may pass between a commit and the first byte, or a connection
    may not come about in time. Then nothing is sent, and the next attempt is opened.
    """
    assert record.ended is not None
    unsent = RefusalReason.UNREACHABLE.value
    return [attempt.state for attempt in record.ended.attempts if attempt.reason != unsent]


async def die_at_each(
    folder: Path, seed: int, names: Sequence[str], location: MediaLocation = FOLDER
) -> None:
    """One chain through these places, and all that must hold after it."""
    with running_sandbox(folder, "--time-scale", "0.01", "--small-files", *UNLIMITED) as sandbox:
        async with (
            CrashingProcess.of(
                folder / "gate", sandbox, **SURE_AT_ONCE, **location.settings
            ) as server,
            RetryingCaller.of(server.address) as faithful,
        ):
            chain = Chain(server, sandbox, faithful, Random(seed))
            for name in names:
                before = await chain.sweeps()
                record = await chain.die_at(name)
                await _check(chain, name, record, before)
                await server.kill()
            server.start()
            await faithful.all_generations()
            await server.stop()
            server.check_log()
            await check_books(server.data, sandbox, chain.records, location)


async def _check(chain: Chain, name: str, record: CallerRecord, sweeps_before: int) -> None:
    """What became of the attempts."""
    ended = attempts_of(record)
    if name in ADOPTED:
        lost_before = name.endswith(("unconfirmed", "adopt"))
        assert len(ended) == 1, name
        # The server that died may have looked once itself.
        assert await chain.sweeps() - sweeps_before <= 2 + lost_before, name
    elif name in REPORTED:
        assert len(ended) == 1, name
    elif name in ABSENT:
        assert ended[-2:] == [Tried.STATE_ABSENT, Tried.STATE_SUCCEEDED], name


def test_every_failpoint_is_covered() -> None:
    """None is forgotten here."""
    assert sorted((*ADOPTED, *REPORTED, *ABSENT, *OTHERS, *OVERRUN)) == sorted(FAILPOINT_NAMES)


def test_every_failpoint_in_the_code_is_listed() -> None:
    """Whoever adds a commit adds it to the list, and so has to die at it here."""
    steps_in_code: set[str] = set()
    steps: set[str] = set()
    for file in Path(failpoints.__file__).parents[1].rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call):
                name = getattr(call.func, "attr", "")
                words = [
                    *call.args[:1],
                    *(keyword.value for keyword in call.keywords if keyword.arg == "failpoint"),
                ]
                said = {str(word.value) for word in words if isinstance(word, ast.Constant)}
                steps_in_code |= said if name in {"hit", "is_armed"} else set()
                steps |= said if name in WRITING else set()
    steps_in_code |= {f"{side}_{step}" for side in ("before", "after") for step in steps}
    assert steps_in_code == FAILPOINT_NAMES


@pytest.mark.timeout(300)
async def test_crash_once_at_every_failpoint(tmp_path: Path, seed: int) -> None:
    """The quick form: two chains side by side."""
    for each in ("taken", "absent"):
        (tmp_path / each).mkdir()
    await asyncio.gather(
        die_at_each(tmp_path / "taken", seed, (*ADOPTED, *REPORTED)),
        die_at_each(tmp_path / "absent", seed, (*ABSENT, *OTHERS)),
    )


@pytest.mark.timeout(120)
async def test_crash_while_archiving_to_a_bucket(tmp_path: Path, seed: int, s3: str) -> None:
    """What had got there is found again; what had not is fetched again."""
    await die_at_each(tmp_path, seed, KEEPING, MediaLocation.in_a_bucket(s3))


@pytest.mark.timeout(180)
async def test_crash_while_settling_an_overrun(tmp_path: Path) -> None:
    """The cost of the attempt that turned up too late is in the ledger, once."""
    for each in OVERRUN:
        (tmp_path / each).mkdir()
    await asyncio.gather(*(die_at_an_overrun(tmp_path / name, name) for name in OVERRUN))


async def die_at_an_overrun(folder: Path, name: str) -> None:
    """A create that upstream gets once another one has done the work; it tells of its end."""
    with running_sandbox(folder, "--time-scale", "0.01", *UNLIMITED) as sandbox:
        async with (
            DelayingProxy.to(sandbox.url) as relay,
            CrashingProcess.of(
                folder / "gate", SandboxControl(relay.url), **SURE_AT_ONCE
            ) as server,
            RetryingCaller.of(server.address) as faithful,
        ):
            server.start(name)
            record = await faithful.call(sample_for(name, Random(1), 0))
            assert attempts_of(record) == [Tried.STATE_ABSENT, Tried.STATE_SUCCEEDED]
            relay.released.set()
            await server.until_dead()
            server.start()
            settled = await faithful.until(
                record.id, lambda generation: bool(generation.attempts[0].prediction_id)
            )
            await server.stop()
        bill = await asyncio.to_thread(sandbox.bill)
    billed = {entry["id"]: entry["nanos"] for entry in bill["entries"]}
    assert billed == {attempt.prediction_id: attempt.cost.usd_nanos for attempt in settled.attempts}
    assert len(billed) == 2
    assert settled.cost.usd_nanos == bill["total_nanos"]
    lines = LedgerBook.of(server.data).ledger.values()
    assert sorted(line["settle"][0] or 0 for line in lines) == sorted(billed.values())


@pytest.mark.faults_full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [*ADOPTED, *REPORTED, *ABSENT, *OTHERS])
async def test_crash_twenty_times_at_every_failpoint(tmp_path: Path, seed: int, name: str) -> None:
    """Each place twenty times, in two chains."""
    for each in range(2):
        (tmp_path / str(each)).mkdir()
    await asyncio.gather(
        *(die_at_each(tmp_path / str(each), seed + each, [name] * 10) for each in range(2))
    )
