"""Prediction state machine. The status changes in one place: `Prediction._move`.

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
    """Return a random id, not seeded: ids must differ between two runs of the sandbox."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """Parsed create request."""

    model: Model
    input: Mapping[str, Any]
    script: RunScript
    size: int = 0
    """Bytes of the request body: what keeping this prediction costs in memory."""
    deadline: datetime | None = None
    deployment: str | None = None
    webhook: str | None = None
    webhook_events_filter: tuple[str, ...] | None = None


class Prediction:
    """Prediction and its state. URLs of outputs are made in `prediction_json.py`."""

    def __init__(self, number: int, request: PredictionRequest, now: datetime) -> None:
        """Create a prediction in status `starting`; `number` is ascending in order of creation."""
        self.number = number
        self.request = request
        self.id = new_id()
        self.stream_key = new_id(52)
        self.file_key = new_id(40)
        self.stream = None if request.model.stream_path is None else StreamLog()
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
        """Call `act` at the end, before the end is visible."""
        self._when_ended.append(act)

    def listen(self, listener: Listener) -> None:
        """Call `listener` with all events from now on."""
        self._listeners.append(listener)

    async def wait_for_output(self) -> None:
        """Wait until all output exists, or never will."""
        while not (self.complete or self.ended):
            await self._changed.wait()

    def start(self, now: datetime) -> None:
        """Change to `processing`: the boot ended."""
        self._boot_seconds = self.request.script.boot.model
        self.started_at = now
        self._move("processing")
        if self.stream is not None:
            self.stream.start(now)
        self._notify("start")

    def add_output(self, step: ScriptStep, now: datetime) -> None:
        """Add the output of a step."""
        self._run_seconds += step.after.model
        self.logs += step.logs
        if step.logs and self.stream is not None:
            self.stream.log(now, step.logs)
        if step.token is not None:
            self.tokens.append(step.token)
            if self.stream is not None:
                self.stream.output(now, step.token)
        self._changed.notify()
        happened: list[Happening] = ["logs"] if step.logs else []
        if step.token is not None:
            happened.append("output")
        self._notify(*happened)

    def succeed(self, now: datetime) -> None:
        """End as succeeded."""
        self.complete = True
        if not self.request.model.streams:
            self._stream_outputs(now)
            self._notify("output")
        self._end("succeeded", now)

    def fail(self, now: datetime) -> None:
        """End as failed with the script's error."""
        self.error = self.request.script.error
        if self.stream is not None:
            self.stream.error(now, self.error)
        self._end("failed", now)

    def cancel(self, now: datetime, spent: float) -> None:
        """End as canceled: by request, or by its deadline.

        `spent` is how many of the model's seconds went into the step that was broken off.
        """
        if self.status == "starting":
            self._boot_seconds = spent
        else:
            self._run_seconds += spent
        self._end("canceled", now)

    def abort(self, now: datetime, spent: float) -> None:
        """End as aborted: the deadline passed before the start; `spent` is model seconds of the
        boot.
        """
        self._boot_seconds = spent
        self._end("aborted", now)

    def amend(self, metrics: Metrics) -> None:
        """Change the metrics. Raises RuntimeError while it runs."""
        if not self.ended:
            raise RuntimeError("a prediction that runs has no metrics yet")
        self.metrics = metrics

    def remove_data(self) -> None:
        """Delete input, output and logs; metadata and metrics stay."""
        self.data_removed = True
        self.tokens, self.logs = [], ""
        script = replace(self.request.script, steps=(), files=(), answer=None)
        self.request = replace(self.request, input={}, script=script)

    def _stream_outputs(self, now: datetime) -> None:
        """Stream the finished outputs of a model that does not stream tokens."""
        if self.stream is None:
            return
        script = self.request.script
        if script.answer is not None:
            self.stream.output(now, script.answer)
        for number in range(len(script.files)):
            self.stream.file(now, number)

    def _end(self, status: Status, now: datetime) -> None:
        self.completed_at = now
        self.metrics = run_metrics(
            self.request.model,
            self.request.input,
            self.request.script,
            boot_seconds=self._boot_seconds,
            run_seconds=self._run_seconds,
            tokens=len(self.tokens),
            complete=self.complete,
        )
        self._move(status)
        for act in self._when_ended:
            act(self)
        if self.stream is not None:
            for name, value in self.metrics.items():
                if name not in ("predict_time", "total_time"):
                    self.stream.metric(now, name, value)
            self.stream.done(now, self.request.script.reason or _REASONS[status])
        self._notify("completed")

    def _notify(self, *happened: Happening) -> None:
        for listener in self._listeners:
            listener(happened)

    def _move(self, status: Status) -> None:
        """Change the status. Raises RuntimeError for an invalid transition."""
        if status not in _NEXT.get(self.status, ()):
            raise RuntimeError(f"a prediction cannot go from {self.status} to {status}")
        self.status = status
        self._changed.notify()
