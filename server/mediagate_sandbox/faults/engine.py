"""Decides which faults fire, and remembers which did.

Draws hang on the seed, the fault, what the request is about and how often it came, and on nothing
else: the same plan, seed and requests make the same faults, and those of one prediction do not
change because requests of others came sooner or later.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any

from mediagate_sandbox.clock import Clock
from mediagate_sandbox.faults.actions import ChangeSchema, Endpoint, RetireModel
from mediagate_sandbox.faults.plan_parser import Fault, FaultPlan

log = logging.getLogger("mediagate.sandbox")


@dataclass(frozen=True, slots=True)
class FaultContext:
    """A request, or a delivery, that faults may strike."""

    endpoint: Endpoint
    model: str | None
    about: Callable[[], str]
    """What it is about, so that draws can hang on that: asked for only where one is made."""
    prediction: str | None = None
    all_models: bool = False
    """Whether it shows all models, so that a fault of any of them is to be seen in it."""


@dataclass(slots=True)
class FiredFault:
    """A fault that fired."""

    number: int
    fault: Fault
    on: Endpoint
    model: str | None
    at: datetime
    count: int
    """Which of the requests that match the fault this was, from 1."""
    random: Random
    """Draws of this firing."""
    prediction: str | None = None

    def document(self) -> dict[str, Any]:
        """The firing as JSON."""
        return {
            "number": self.number,
            "fault": self.fault.name,
            "do": self.fault.action.do,
            "on": self.on,
            "model": self.model,
            "prediction": self.prediction,
            "count": self.count,
            "at": self.at,
        }


@dataclass(slots=True)
class _Standing:
    """A fault in force, and how often it matched and fired."""

    fault: Fault
    matched: int = 0
    fired: int = 0
    draws: Counter[str] = field(default_factory=Counter)


class FaultEngine:
    """The plan in force."""

    def __init__(self, clock: Clock, plan: FaultPlan, default_seed: int | None = None) -> None:
        """Carry out `plan`; a plan without a seed gets `default_seed`, or one that is drawn."""
        self._clock = clock
        self._first = plan
        self._default_seed = default_seed
        self.seed = 0
        self._standing: list[_Standing] = []
        self._fired: list[FiredFault] = []
        self.load_plan(plan)

    def load_plan(self, plan: FaultPlan) -> None:
        """Put another plan in force and forget what fired under the last one."""
        chosen = plan.seed if plan.seed is not None else self._default_seed
        self.seed = secrets.randbelow(2**32) if chosen is None else chosen
        self._standing = [_Standing(fault) for fault in plan.faults]
        self._fired = []
        if plan.faults:
            log.info("fault plan: %d faults, seed %d", len(plan.faults), self.seed)

    def reset_plan(self) -> None:
        """Put the first plan in force again, as if nothing had fired."""
        self.load_plan(self._first)

    def stop(self) -> None:
        """Let nothing go wrong any more; what fired stays readable."""
        self._standing = []

    def find_fault(self, endpoint: Endpoint) -> bool:
        """Whether any fault could strike this endpoint."""
        return any(endpoint in each.fault.on for each in self._standing)

    def should_fire(self, occasion: FaultContext) -> tuple[FiredFault, ...]:
        """The faults that fire on this occasion, in the order of the plan."""
        return tuple(
            self._fire(standing, occasion)
            for index, standing in enumerate(self._standing)
            if self._is_struck(index, standing, occasion)
        )

    def document(self) -> dict[str, Any]:
        """Seed, plan and firings as JSON for `GET /sandbox/faults`."""
        return {
            "seed": self.seed,
            "faults": [
                {
                    "name": each.fault.name,
                    "do": each.fault.action.do,
                    "on": each.fault.on,
                    "matched": each.matched,
                    "fired": each.fired,
                }
                for each in self._standing
            ],
            "fired": [each.document() for each in self._fired],
        }

    def _is_struck(self, index: int, standing: _Standing, occasion: FaultContext) -> bool:
        fault = standing.fault
        if occasion.endpoint not in fault.on:
            return False
        seen = occasion.all_models and isinstance(fault.action, ChangeSchema | RetireModel)
        if not (seen or fault.applies_to(occasion.model)):
            return False
        standing.matched += 1
        count = standing.matched - fault.after
        if count < 1 or (fault.nth is not None and count != fault.nth):
            return False
        if fault.every is not None and count % fault.every:
            return False
        if fault.times is not None and standing.fired >= fault.times:
            return False
        return fault.probability >= 1 or self._is_drawn(index, standing, occasion)

    def _is_drawn(self, index: int, standing: _Standing, occasion: FaultContext) -> bool:
        about = f"{occasion.endpoint} {occasion.about()}"
        standing.draws[about] += 1
        draw = Random(f"{self.seed} {index} {about} {standing.draws[about]}").random()
        return draw < standing.fault.probability

    def _fire(self, standing: _Standing, occasion: FaultContext) -> FiredFault:
        standing.fired += 1
        number = len(self._fired) + 1
        firing = FiredFault(
            number=number,
            fault=standing.fault,
            on=occasion.endpoint,
            model=occasion.model,
            at=self._clock.now(),
            count=standing.matched,
            random=Random(f"{self.seed} {standing.fault.name} {standing.fired}"),
            prediction=occasion.prediction,
        )
        self._fired.append(firing)
        log.info("fault %d: %s on %s", number, standing.fault.name, occasion.endpoint)
        return firing
