"""Runner of predictions: plays each script in its own task.

Runs are tasks of the sandbox's task group, independent of the requests that create or read them.
"""

from __future__ import annotations

import asyncio

from mediagate_sandbox.clock import Clock, in_time
from mediagate_sandbox.predictions import Prediction
from mediagate_sandbox.run_script import TimeSpan


class Runner:
    """Runs predictions inside one task group."""

    def __init__(self, group: asyncio.TaskGroup, clock: Clock) -> None:
        """Create a runner; runs end with `group`, and wait on `clock`."""
        self._group = group
        self._clock = clock
        self._runs: dict[str, _Run] = {}

    def start(self, prediction: Prediction) -> None:
        """Start the run; returns at once."""
        run = _Run(prediction, self._clock)
        self._runs[prediction.id] = run
        run.task = self._group.create_task(run.play(), name=f"prediction {prediction.id}")
        run.task.add_done_callback(lambda _: self._runs.pop(prediction.id, None))

    def cancel(self, prediction: Prediction) -> None:
        """End the prediction as canceled, now; no effect on an ended one."""
        run = self._runs.get(prediction.id)
        if run is not None and not prediction.ended:
            prediction.cancel(self._clock.now(), run.spent())
            if run.task is not None:
                run.task.cancel()

    def stop(self) -> None:
        """Stop all runs without ending their predictions, as a crash would."""
        for run in self._runs.values():
            if run.task is not None:
                run.task.cancel()


class _Run:
    """One running prediction."""

    def __init__(self, prediction: Prediction, clock: Clock) -> None:
        self.task: asyncio.Task[None] | None = None
        self._prediction = prediction
        self._clock = clock
        self._due = clock.monotonic()
        self._span: TimeSpan | None = None

    async def play(self) -> None:
        """Play the script to its end or to the deadline, whichever is first."""
        prediction, clock = self._prediction, self._clock
        deadline = prediction.request.deadline
        left = None if deadline is None else (deadline - prediction.created_at).total_seconds()
        if await in_time(clock, left, self._plan()) or prediction.ended:
            return
        if prediction.status == "starting":
            prediction.abort(clock.now(), self.spent())
        else:
            prediction.cancel(clock.now(), self.spent())

    def spent(self) -> float:
        """Return the model seconds of the current wait that have passed."""
        begun = self._due - (0.0 if self._span is None else self._span.real)
        passed = max(0.0, self._clock.monotonic() - begun)
        if self._span is None:
            return passed
        if self._span.real <= 0:
            return self._span.model
        return self._span.model * min(1.0, passed / self._span.real)

    async def _plan(self) -> None:
        prediction, clock, script = self._prediction, self._clock, self._prediction.request.script
        # A cancel may come between the end of a wait and this task's turn: hence `ended`.
        await self._wait(script.boot)
        if prediction.ended:
            return
        if script.ending == "abort":
            prediction.abort(clock.now(), script.boot.model)
            return
        prediction.start(clock.now())
        for step in script.steps:
            await self._wait(step.after)
            if prediction.ended:
                return
            prediction.add_output(step, clock.now())
        match script.ending:
            case "succeed":
                prediction.succeed(clock.now())
            case "fail":
                prediction.fail(clock.now())
            case "hang":
                self._span = None
                await asyncio.Event().wait()

    async def _wait(self, span: TimeSpan) -> None:
        """Wait on a schedule rather than from now on, so that delays do not add up."""
        self._span = span
        self._due += span.real
        await self._clock.sleep_until(self._due)
