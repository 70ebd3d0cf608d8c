"""One prediction and its life. The status changes in one place: `Prediction._move`.

It keeps times and counts, wakes whoever waits, and knows nothing of HTTP or of how long to wait.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from mediagate_sandbox.broadcast_event import BroadcastEvent
from mediagate_sandbox.models import Model
from mediagate_sandbox.run_metrics import Metrics, run_metrics
from mediagate_sandbox.run_script import RunScript, ScriptStep
from mediagate_sandbox.streams import StreamLog

Status = Literal["starting", "processing", "succeeded", "failed", "canceled", "aborted"]

Happening = Literal["start", "output", "logs", "completed"]
"""What a webhook can be told of, by the names Replicate filters by."""

Listener = Callable[[tuple[Happening, ...]], None]
"""Hears what has just happened to a prediction, all that happened at once in one call."""

_NEXT: Mapping[Status, tuple[Status, ...]] = {
    "starting": ("processing", "canceled", "aborted"),
    "processing": ("succeeded", "failed", "canceled"),
}
_REASONS: Mapping[Status, str | None] = {
    "succeeded": None,
    "failed": "error",
    "canceled": "canceled",
    "aborted": "canceled",
}
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_LENGTH = 26


def new_id(length: int = _ID_LENGTH) -> str:
    """A random id. Not seeded: ids must differ between two runs of the sandbox."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """What a caller asked for when it created a prediction."""

    model: Model
    input: Mapping[str, Any]
    plan: RunScript
    size: int = 0
    """Bytes of the request body: what keeping this prediction costs in memory."""
    deadline: datetime | None = None
    deployment: str | None = None
    webhook: str | None = None
    webhook_events_filter: tuple[str, ...] | None = None


class Prediction:
    """A prediction and its state. Outputs are kept apart from their URLs (`prediction_json.py`)."""

    def __init__(self, number: int, order: PredictionRequest, now: datetime) -> None:
        """A prediction that is `starting`; `number` counts up in order of creation."""
        self.number = number
        self.order = order
        self.id = new_id()
        self.stream_key = new_id(52)
        self.file_key = new_id(40)
        self.stream = StreamLog() if order.model.streams else None
        self.status: Status = "starting"
        self.created_at = now
        self.listed_at = now
        """From when on the list of predictions has it."""
        self.started_at: datetime | None = None
        self.completed_at: datetime | None = None
        self.tokens: list[str] = []
        self.logs = ""
        self.error: str | None = None
        self.metrics: Metrics | None = None
        self.data_removed = False
        self.complete = False
        """Whether all output is there."""
        self._boot_seconds = 0.0
        self._run_seconds = 0.0
        self._changed = BroadcastEvent()
        self._when_ended: list[Callable[[Prediction], None]] = []
        self._listeners: list[Listener] = []

    @property
    def ended(self) -> bool:
        """Whether the status is final."""
        return self.status not in _NEXT

    def wait_for_end(self, act: Callable[[Prediction], None]) -> None:
        """Have `act` called in the step that ends it, before anyone can see the end."""
        self._when_ended.append(act)

    def listen(self, listener: Listener) -> None:
        """Tell `listener` of everything that happens from now on."""
        self._listeners.append(listener)

    async def wait_for_output(self) -> None:
        """Return when all output is there, or will never be."""
        while not (self.complete or self.ended):
            await self._changed.wait()

    def start(self, now: datetime) -> None:
        """The boot is over, the run begins."""
        self._boot_seconds = self.order.plan.boot.model
        self.started_at = now
        self._move("processing")
        self._tell("start")

    def add_output(self, step: ScriptStep, now: datetime) -> None:
        """The run has reached a step."""
        self._run_seconds += step.after.model
        self.logs += step.logs
        if step.token is not None:
            self.tokens.append(step.token)
            if self.stream is not None:
                self.stream.output(now, step.token)
        self._changed.notify()
        happened: list[Happening] = ["logs"] if step.logs else []
        if step.token is not None:
            happened.append("output")
        self._tell(*happened)

    def succeed(self, now: datetime) -> None:
        """All output is there, the run is over."""
        self.complete = True
        if not self.order.model.streams:
            self._tell("output")
        self._end("succeeded", now)

    def fail(self, now: datetime) -> None:
        """The run broke off with the plan's error."""
        self.error = self.order.plan.error
        if self.stream is not None:
            self.stream.error(now, self.error)
        self._end("failed", now)

    def cancel(self, now: datetime, spent: float) -> None:
        """Someone cancelled it, or its deadline passed while it ran.

        `spent` is how many of the model's seconds went into the step that was broken off.
        """
        if self.status == "starting":
            self._boot_seconds = spent
        else:
            self._run_seconds += spent
        self._end("canceled", now)

    def abort(self, now: datetime, spent: float) -> None:
        """Its deadline passed before it started; `spent` is model seconds of the boot."""
        self._boot_seconds = spent
        self._end("aborted", now)

    def amend(self, metrics: Metrics) -> None:
        """Report other metrics from now on. Raises RuntimeError while it runs."""
        if not self.ended:
            raise RuntimeError("a prediction that runs has no metrics yet")
        self.metrics = metrics

    def remove_data(self) -> None:
        """Forget what went in and what came out; what it was and what it took stays."""
        self.data_removed = True
        self.tokens, self.logs = [], ""
        plan = replace(self.order.plan, steps=(), files=(), answer=None)
        self.order = replace(self.order, input={}, plan=plan)

    def _end(self, status: Status, now: datetime) -> None:
        self.completed_at = now
        self.metrics = run_metrics(
            self.order.model,
            self.order.input,
            self.order.plan,
            boot_seconds=self._boot_seconds,
            run_seconds=self._run_seconds,
            tokens=len(self.tokens),
            complete=self.complete,
        )
        self._move(status)
        for act in self._when_ended:
            act(self)
        if self.stream is not None:
            self.stream.done(now, self.order.plan.reason or _REASONS[status])
        self._tell("completed")

    def _tell(self, *happened: Happening) -> None:
        for listener in self._listeners:
            listener(happened)

    def _move(self, status: Status) -> None:
        """The one place where a status changes. Raises RuntimeError for a step back."""
        if status not in _NEXT.get(self.status, ()):
            raise RuntimeError(f"a prediction cannot go from {self.status} to {status}")
        self.status = status
        self._changed.notify()
