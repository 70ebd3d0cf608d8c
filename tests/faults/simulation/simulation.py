"""One simulation: a seed, and everything that must hold at its end."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from mediagate_server.errors import Reason, StoreUnavailable
from mediagate_server.generations.execution.deadline import OUT_OF_TIME
from mediagate_server.store.records import State

from .callers import SimulatedCaller
from .fault_schedule import FaultSchedule
from .simulated_network import Network
from .simulated_process import Process, ProcessDied
from .simulated_store import new_disk
from .simulated_upstream import SimulatedRun, SimulatedUpstream
from .virtual_loop import VirtualLoop

_LATE_PREDICTION: Final = "late_prediction_found"
HOUR: Final = 3_600.0
LATE: Final = 20 * 60.0
"""Longer than what was declared absent is looked for."""
REDELIVERIES: Final = (1.0, 5.0, 25.0, 60.0)


@dataclass(frozen=True)
class SimulationOutcome:
    """What came of a seed."""

    digest: str
    trace: list[str]
    generations: int
    predictions: int
    deaths: int
    absent: int
    overruns: int
    beside: int
    broken: int


class SimulatedWorld:
    """Everything that outlives a process."""

    def __init__(self, seed: int, bugs: float, *, api_errors: bool) -> None:
        loop = asyncio.get_running_loop()
        self.chance = FaultSchedule(seed, bugs, api_errors, loop.time, self._kill)
        self.upstream = SimulatedUpstream(self.chance.random, loop.time)
        self.upstream.ended = self._ended
        self.network = Network(self.chance, self.upstream)
        self.disk = new_disk()
        self.webhooks_come = self.chance.random.random() < 0.6
        self._started = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._process: Process | None = None
        count = self.chance.random.randint(1, 8)
        self.callers = [
            SimulatedCaller(
                self.chance.random,
                number,
                self._serving,
                goes_next=api_errors and self.chance.api.random() < 0.4,
            )
            for number in range(count)
        ]

    async def run(self) -> None:
        """Until everything has come to its end."""
        self._start()
        async with asyncio.TaskGroup() as group:
            for caller in self.callers:
                group.create_task(caller.run())
            leaving = group.create_task(self._leave_now_and_then())
            group.create_task(self._until_all_ended(leaving))
        assert self._process is not None
        self._process.leave()
        await asyncio.wait({self._process.main})

    def unfinished(self) -> list[tuple[str, str]]:
        """Generations that are not at their end."""
        return self.disk.execute("SELECT id, state FROM generations WHERE terminal = 0").fetchall()

    def beside(self) -> int:
        """How many attempts were sent while another of the same output was in doubt."""
        documents = self.disk.execute("SELECT document FROM generations")
        return sum(
            "beside" in attempt
            for (document,) in documents
            for attempt in json.loads(document)["attempts"]
        )

    async def _until_all_ended(self, leaving: asyncio.Task[None]) -> None:
        await asyncio.sleep(HOUR)
        leaving.cancel()
        self.chance.quiet = True
        for _ in range(100):
            if not self.unfinished():
                break
            await asyncio.sleep(60)
        await asyncio.sleep(LATE)

    async def _leave_now_and_then(self) -> None:
        """Somebody restarts the server in good order."""
        while self.chance.random.random() < 0.4:
            await asyncio.sleep(self.chance.random.uniform(1, 200))
            if self._process and self._process.serving.is_set():
                self.chance.trace.append("leaves")
                self._process.leave()

    async def _serving(self) -> Process:
        while True:
            process = self._process
            if process is not None and process.alive:
                waiting = asyncio.ensure_future(process.serving.wait())
                try:
                    await asyncio.wait({waiting, process.main}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    waiting.cancel()
                if process.serving.is_set():
                    return process
            await asyncio.sleep(0.1)

    def _start(self) -> None:
        self._started += 1
        self._process = Process(self.disk, self.network, self._started)
        self._process.main.add_done_callback(self._gone)

    def _gone(self, main: asyncio.Task[None]) -> None:
        """The next one follows after a while; one that broke by itself fails the simulation."""
        if not main.cancelled() and (error := main.exception()):
            raise error
        again = self.chance.random.choice((0.2, 2.0, 60.0))
        asyncio.get_running_loop().call_later(again, self._start)

    def _kill(self) -> None:
        if self._process is not None and self._process.alive:
            self._process.kill()

    # Webhooks

    def _ended(self, run: SimulatedRun) -> None:
        self.chance.event(f"{run.id} {run.status}")
        if not self.webhooks_come:
            return
        for _ in range(self.chance.random.choice((0, 1, 1, 1, 5))):
            self._add_task(self._deliver(run))

    async def _deliver(self, run: SimulatedRun) -> None:
        """Tell of an end, again and again until it was taken, or for a minute."""
        await asyncio.sleep(self.chance.random.choice((0.01, 0.5, 90.0)))
        for pause in REDELIVERIES:
            process = self._process
            if process and process.serving.is_set() and not self.chance.goes_wrong():
                try:
                    await process.call(process.webhook(run.attempt, run.id))
                except (ProcessDied, StoreUnavailable):
                    pass  # Not answered with a 200: it is sent again.
                else:
                    return
            await asyncio.sleep(pause)

    def _add_task(self, doing: Any) -> None:
        task = asyncio.get_running_loop().create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def simulate(seed: int, *, bugs: float = 0.0, api_errors: bool = True) -> SimulationOutcome:
    """Run it; AssertionError where something does not hold.

    `bugs` is the share of upstream's answers that something in the server falls over. `api_errors`:
    upstream's API answers creates with errors of its own.
    """
    with (
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
        structlog.testing.capture_logs() as logs,
    ):
        return runner.run(_simulate(seed, logs, bugs, api_errors=api_errors))


async def _simulate(
    seed: int, logs: list[Any], bugs: float, *, api_errors: bool
) -> SimulationOutcome:
    failures: list[BaseException] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(
        lambda _, context: failures.append(context.get("exception") or AssertionError(context))
    )
    world = SimulatedWorld(seed, bugs, api_errors=api_errors)
    await world.run()
    assert not failures, failures
    broken = [entry for entry in logs if entry["event"].endswith("_crashed")]
    if not bugs:
        assert not broken, logs
    attempts = check(world)
    return SimulationOutcome(
        digest=world.chance.digest,
        trace=world.chance.trace,
        generations=len({name for caller in world.callers for name in caller.ids}),
        predictions=len(world.upstream.runs),
        deaths=sum(line.endswith(" death") for line in world.chance.trace),
        absent=attempts["absent"],
        overruns=sum(entry["event"] == _LATE_PREDICTION for entry in logs),
        beside=world.beside(),
        broken=sum(entry["event"] == "generation_crashed" for entry in broken),
    )


def check(world: SimulatedWorld) -> Counter[str]:
    """Every invariant; how many attempts ended in which way."""
    assert not world.unfinished()
    records = {
        name: json.loads(document)
        for name, document in world.disk.execute("SELECT id, document FROM generations")
    }
    for record in records.values():
        for attempt in record["attempts"]:
            attempt.setdefault("prediction_id", "")  # What is as it was at first is not written.
    _check_callers(world, records)
    attempts = {
        attempt["id"]: attempt for record in records.values() for attempt in record["attempts"]
    }
    attempt_of = {
        entry["prediction_id"]: name for name, entry in attempts.items() if entry["prediction_id"]
    }
    runs = world.upstream.runs
    assert attempt_of.keys() == runs.keys(), "somebody's, or nobody's"
    for name, holder in attempt_of.items():
        # Of attempts with the same input any may hold what any of them has made.
        creator = attempts[runs[name].attempt]
        assert attempts[holder]["input_hash"] == creator["input_hash"], "another's"
    _check_ledger(world, attempts)
    for record in records.values():
        _check_cuts(record, runs)
        billed_counts = Counter(
            (attempt["purpose"], attempt["output_index"])
            for attempt in record["attempts"]
            # A model that failed, or whose share of the time was over, has a successor.
            if attempt["prediction_id"]
            and runs[attempt["prediction_id"]].status != "failed"
            and attempt.get("reason") != OUT_OF_TIME
        )
        most = 2 if any("beside" in attempt for attempt in record["attempts"]) else 1
        assert world.upstream.hides or all(each <= most for each in billed_counts.values()), (
            "paid twice"
        )
        billed_nanos = sum(
            runs[attempt["prediction_id"]].nanos
            for attempt in record["attempts"]
            if attempt["prediction_id"]
        )
        assert record["cost"]["nanos"] == billed_nanos
    (row,) = world.disk.execute(
        "SELECT (SELECT count(*) FROM pending) + (SELECT count(*) FROM checkpoints)"
    ).fetchone()
    assert row == 0
    return Counter(attempt["state"] for attempt in attempts.values())


def _check_callers(world: SimulatedWorld, records: dict[str, Any]) -> None:
    """Acknowledged and lost: 0. Each had one generation, but where nothing was ever taken."""
    for caller in world.callers:
        assert set(caller.ids) <= records.keys(), "acknowledged and lost"
        for released in caller.ids[:-1]:
            was_created = any(attempt["prediction_id"] for attempt in records[released]["attempts"])
            assert world.upstream.hides or not was_created, "taken, and released"
        if caller.ids and caller.text:
            final = records[caller.ids[-1]]
            text = final.get("output", {}).get("text", "")
            if final["state"] == State.SUCCEEDED:
                # Of a run that was never written down, and that the list hid, a part may be told.
                if world.upstream.hides and caller.outcome == Reason.STREAM_EXPIRED.value:
                    continue
                assert text.startswith(caller.text), "another text"
                assert caller.text == text or caller.outcome != "OK", "a part of the text"
            else:
                # Of what was not kept in time a record of no success may have less.
                assert text.startswith(caller.text) or caller.text.startswith(text)


def _check_cuts(record: dict[str, Any], runs: Mapping[str, SimulatedRun]) -> None:
    """A run that was cancelled for the next model is over before that is sent."""
    step_ends: dict[tuple[str, int], float] = {}
    for attempt in record["attempts"]:
        step, run = (
            (attempt["purpose"], attempt["output_index"]),
            runs.get(attempt["prediction_id"]),
        )
        if run is not None and attempt["state"] != "absent":
            assert run.create_time >= step_ends.get(step, 0.0), "two at once"
        if run is not None and attempt.get("reason") == OUT_OF_TIME:
            step_ends[step] = run.ends


def _check_ledger(world: SimulatedWorld, attempts: dict[str, Any]) -> None:
    """The ledger is the bill."""
    lines: dict[str, dict[str, int | None]] = {}
    for attempt, kind, amount in world.disk.execute(
        "SELECT attempt_id, kind, amount_nanos FROM ledger"
    ):
        lines.setdefault(attempt, {})[kind] = amount
    assert lines.keys() == attempts.keys()
    for name, attempt in attempts.items():
        ends = lines[name].keys() - {"reserve"}
        if attempt["prediction_id"]:
            run = world.upstream.runs[attempt["prediction_id"]]
            assert lines[name]["settle"] == run.nanos
            overrun = {"settle", "release"} if world.upstream.hides else {"settle"}
            assert ends in ({"settle"}, overrun), "an overrun"
        else:
            assert ends == {"release"}
