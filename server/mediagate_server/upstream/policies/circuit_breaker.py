"""Circuit breaker per model: stops its creates while too many of its requests fail.

Each failed create may stay unconfirmed. Only creates are stopped: what runs is paid for and must be
followed, so reads always pass. Both are observed, but apart, as there are many reads to a create: a
model whose creates all fail would look healthy among the reads of earlier runs. A circuit is closed
by the kind that opened it: good reads where reads failed, one create let through as a probe where
creates failed; a good create always closes it. No I/O.
"""

import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from mediagate_server import errors
from mediagate_server.observability import metrics
from mediagate_server.upstream.policies.policy import T, UpstreamRequest
from mediagate_server.upstream.port import (
    NoResponse,
    RefusalReason,
    RequestRefused,
    UnreadableResponse,
)
from mediagate_server.upstream.settings import UpstreamLimits

Kind = Literal["create", "read"]

_MAX_CIRCUITS = 1_000
"""Circuits in memory."""

PROBE_TIMEOUT = 60.0
"""Seconds until a probe that never reported counts as lost. A create is over well within."""


@dataclass(slots=True)
class _FailureWindow:
    """Results of one kind of request in a sliding window."""

    results: deque[tuple[float, bool]] = field(default_factory=deque)
    failures: int = 0

    def add(self, now: float, *, failed: bool, length: float) -> None:
        self.results.append((now, failed))
        self.failures += failed
        while self.results[0][0] <= now - length:
            self.failures -= self.results.popleft()[1]

    def clear(self) -> None:
        self.results.clear()
        self.failures = 0


@dataclass(slots=True)
class _Circuit:
    """One model. Closed while `opened_by` is None; half open once `retry_at` has passed."""

    windows: dict[Kind, _FailureWindow] = field(
        default_factory=lambda: {"create": _FailureWindow(), "read": _FailureWindow()}
    )
    opened_by: Kind | None = None
    retry_at: float = 0.0
    probe_until: float = -math.inf


class CircuitBreaker:
    """One circuit per model. `clock` counts seconds and never goes back.

    `label` turns a model into a metric's label: a model that a caller named by its own slug must
    not mint a series.
    """

    def __init__(
        self,
        settings: UpstreamLimits,
        clock: Callable[[], float] = time.monotonic,
        *,
        label: Callable[[str], str] = str,
    ) -> None:
        self._settings = settings
        self._label = label
        self._clock = clock
        self._circuits: dict[str, _Circuit] = {}

    async def __call__(self, call: UpstreamRequest, call_next: Callable[[], Awaitable[T]]) -> T:
        """Record the result of a request; stop none. Uploads are ignored: they have no model."""
        if call.endpoint == "upload":
            return await call_next()
        kind: Kind = "create" if call.endpoint == "create" else "read"
        failed: bool | None = None
        try:
            answer = await call_next()
            failed = False
            return answer
        except NoResponse as failure:
            failed = None if isinstance(failure, UnreadableResponse) else True
            raise
        except RequestRefused as refused:
            # A definite refusal shows that upstream is up, not that the model works.
            failed = True if refused.refusal is RefusalReason.UNREACHABLE else None
            raise
        finally:
            self._record(call.model, kind, failed=failed)

    def check(self, model: str) -> None:
        """Raise CircuitOpen where `admit` would; changes nothing."""
        circuit = self._circuits.get(model)
        if circuit is None or circuit.opened_by is None:
            return
        left = max(circuit.retry_at, circuit.probe_until) - self._clock()
        if left > 0:
            raise errors.CircuitOpen(
                "too many requests to this model failed lately",
                metadata={"model": model},
                retry_after=min(left, self._settings.breaker_pause),
            )

    def is_half_open(self, model: str) -> bool:
        """Whether the next create would be the probe."""
        circuit = self._circuits.get(model)
        return circuit is not None and circuit.opened_by is not None

    def admit(self, model: str) -> float:
        """Admit one create. In a half-open circuit it is the probe: the next waits for its end.

        Returns a lease, which must be released where the create is not sent. It expires, so that a
        probe which is neither sent nor released does not block the circuit for ever.
        """
        self.check(model)
        circuit = self._circuits.get(model)
        if circuit is None or circuit.opened_by is None:
            return -math.inf
        circuit.probe_until = self._clock() + PROBE_TIMEOUT
        return circuit.probe_until

    def release(self, model: str, lease: float) -> None:
        """The create is not sent: if it is the probe, the next create may be it."""
        circuit = self._circuits.get(model)
        if circuit is not None and circuit.probe_until == lease:
            circuit.probe_until = -math.inf

    def _record(self, model: str, kind: Kind, *, failed: bool | None) -> None:
        """Record a result; `failed` is None where it says nothing about the model."""
        circuit = self._circuit(model)
        now = self._clock()
        if kind == "create":
            circuit.probe_until = -math.inf
        if failed is None:
            return
        window = circuit.windows[kind]
        window.add(now, failed=failed, length=self._settings.breaker_window)
        if circuit.opened_by is None:
            if failed and self._is_broken(window):
                self._open(model, circuit, kind)
        elif now >= circuit.retry_at and kind in ("create", circuit.opened_by):
            if failed:
                self._open(model, circuit, circuit.opened_by)
            else:
                self._close(model, circuit)

    def _circuit(self, model: str) -> _Circuit:
        """The model's circuit. Callers may name any model, so closed ones are evicted."""
        circuit = self._circuits.get(model)
        if circuit is None:
            if len(self._circuits) >= _MAX_CIRCUITS:
                closed = [
                    name for name, circuit in self._circuits.items() if circuit.opened_by is None
                ]
                for name in closed[: _MAX_CIRCUITS // 2]:
                    del self._circuits[name]
            circuit = self._circuits[model] = _Circuit()
        return circuit

    def _is_broken(self, window: _FailureWindow) -> bool:
        count = len(window.results)
        return (
            count >= self._settings.breaker_least
            and window.failures >= count * self._settings.breaker_ratio
        )

    def _open(self, model: str, circuit: _Circuit, kind: Kind) -> None:
        circuit.opened_by = kind
        circuit.retry_at = self._clock() + self._settings.breaker_pause
        self._set_gauge(model)

    def _close(self, model: str, circuit: _Circuit) -> None:
        circuit.opened_by = None
        for window in circuit.windows.values():
            window.clear()
        self._set_gauge(model)

    def _set_gauge(self, model: str) -> None:
        """Set the gauge to the number of open circuits that share the model's label."""
        label = self._label(model)
        opened = [name for name, circuit in self._circuits.items() if circuit.opened_by is not None]
        metrics.breaker_open.labels(label).set(sum(self._label(name) == label for name in opened))
