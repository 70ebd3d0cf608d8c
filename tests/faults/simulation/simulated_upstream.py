"""Replicate as far as a generation's life knows it, in virtual time; it bills what it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, Final

from mediagate_server.upstream.port import CreateRequest, Prediction, PredictionStatus

from .sample_plans import nanos

BEGIN: Final = datetime(2026, 11, 24, tzinfo=UTC)
_ENDED: Final = {
    "succeeded": PredictionStatus.SUCCEEDED,
    "failed": PredictionStatus.FAILED,
    "canceled": PredictionStatus.CANCELED,
    "aborted": PredictionStatus.ABORTED,
}


@dataclass
class SimulatedRun:
    """A prediction: made at `made`, at work from `begins`, over at `ends` as `status`. Seconds."""

    id: str
    attempt: str
    slug: str
    input: Mapping[str, Any]
    create_time: float
    begins: float
    ends: float
    status: str
    listed_from: float
    words: tuple[str, ...]
    pace: float
    timer: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> Decimal:
        """How long it ran in the end, as its metrics say."""
        return Decimal(str(round(self.ends - self.begins, 3)))

    @property
    def nanos(self) -> int:
        """What is billed for it once it is over."""
        return 0 if self.status == "aborted" else nanos(self.slug, self.seconds)

    def is_over(self, now: float) -> bool:
        """Whether it has ended by now."""
        return now >= self.ends

    def received(self, now: float) -> int:
        """How many of its words it has said by now."""
        spent = min(now, self.ends) - self.begins
        return max(0, min(len(self.words), int(spent / self.pace)))

    def said(self, now: float) -> list[str]:
        """The words so far; all of them where it succeeded."""
        if self.is_over(now) and self.status == "succeeded":
            return list(self.words)
        return list(self.words[: self.received(now)])

    def end(self, status: str, now: float) -> None:
        """It is cut off."""
        self.status, self.ends = status, now


class SimulatedUpstream:
    """All predictions of one account. `ended` is called with each one at its end."""

    def __init__(self, random: Random, now: Callable[[], float]) -> None:
        self.runs: dict[str, SimulatedRun] = {}
        self.ended: Callable[[SimulatedRun], None] = lambda _: None
        self.hides = random.random() < 0.2
        """It lists some of its runs only after minutes: they are declared absent, and turn up."""
        self._random = random
        self._now = now

    def accept(
        self, request: CreateRequest, attempt: str, lag: float | None = None
    ) -> SimulatedRun:
        """A create has arrived: it will run and cost. `lag` is when the list has it, in seconds."""
        random, now = self._random, self._now()
        begins = now + random.choice((0.1, 1.0, 20.0))
        letter = request.target[-6]
        words = tuple(f"{letter}{number} " for number in range(random.randint(1, 30)))
        pace = random.choice((0.02, 0.3, 2.0))
        lasts = pace * len(words) + random.random()
        status = random.choices(("succeeded", "failed", "hangs"), (80, 12, 8))[0]
        run = SimulatedRun(
            id=f"p{len(self.runs)}",
            attempt=attempt,
            slug=request.target,
            input=dict(request.input),
            create_time=now,
            begins=begins,
            ends=begins + (lasts if status != "hangs" else 1e9),
            status=status,
            listed_from=now + random.choice((0.0, 0.0, 3.0, 400.0 if self.hides else 20.0)),
            words=words,
            pace=pace,
        )
        if lag is not None:
            run.listed_from = now + lag
        deadline = now + request.cancel_after
        if deadline < run.ends:
            run.end("aborted" if deadline < begins else "canceled", max(deadline, now))
            run.begins = min(run.begins, run.ends)
        self.runs[run.id] = run
        self._arm(run)
        return run

    def cancel(self, run: SimulatedRun) -> None:
        """Cut off; nothing where it is over."""
        now = self._now()
        if run.is_over(now):
            return
        run.end("aborted" if now < run.begins else "canceled", now)
        run.begins = min(run.begins, now)
        self._arm(run)

    def show(self, run: SimulatedRun) -> Prediction:
        """The prediction as it stands."""
        now = self._now()
        over = run.is_over(now)
        started = now >= run.begins and not (over and run.status == "aborted")
        status = PredictionStatus.PROCESSING if started else PredictionStatus.STARTING
        if over:
            status = _ENDED[run.status]
        return Prediction(
            run.id,
            status,
            model=run.slug,
            # With a default of its own filled in. Not where it hides runs: of one that turns up so
            # late only who knows the input by heart can tell, and after a restart nobody does.
            input=run.input if self.hides else {**run.input, "filled_in": 1},
            output=self._output(run, now) if over else None,
            error="E1001: out of memory" if over and run.status == "failed" else None,
            metrics={"predict_time": run.seconds} if over and run.status != "aborted" else {},
            created_at=BEGIN + timedelta(seconds=run.create_time),
            completed_at=BEGIN + timedelta(seconds=run.ends) if over else None,
            stream_url=f"https://stream.example/{run.id}" if "text" in run.slug else None,
        )

    def _output(self, run: SimulatedRun, now: float) -> Any:
        if run.slug == "sim/guard":
            return "unsafe\nS1" if len(run.words) % 5 == 0 else "safe"
        if run.slug == "sim/picture":
            return ["https://files.example/a.png"] if run.status == "succeeded" else None
        return run.said(now)

    def _arm(self, run: SimulatedRun) -> None:
        if run.timer:
            run.timer.cancel()
        loop = asyncio.get_running_loop()
        run.timer = loop.call_at(run.ends, self.ended, run)
