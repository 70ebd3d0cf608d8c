"""Fault engine: decides which faults of the plan fire, and records them.

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
    """Context of a request or delivery, matched against the faults."""

    endpoint: Endpoint
    model: str | None
    about: Callable[[], str]
    """What it is about, so that draws can hang on that: asked for only where one is made."""
    prediction: str | None = None
    all_models: bool = False
    """Whether it shows all models, so that a fault of any of them is to be seen in it."""


@dataclass(slots=True)
class FiredFault:
    """One fired fault."""

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
        """Return the fired fault as JSON."""
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
class _ActiveFault:
    """Active fault with its counts of matches and firings."""

    fault: Fault
    matched: int = 0
    fired: int = 0
    draws: Counter[str] = field(default_factory=Counter)


class FaultEngine:
    """Engine of the active fault plan."""

    def __init__(self, clock: Clock, plan: FaultPlan, default_seed: int | None = None) -> None:
        """Start with `plan`; a plan without a seed gets `default_seed`, or a random one."""
        self._clock = clock
        self._first = plan
        self._default_seed = default_seed
        self.seed = 0
        self._active: list[_ActiveFault] = []
        self._fired: list[FiredFault] = []
        self.load_plan(plan)

    def load_plan(self, plan: FaultPlan) -> None:
        """Replace the plan and clear the fired faults."""
        chosen = plan.seed if plan.seed is not None else self._default_seed
        self.seed = secrets.randbelow(2**32) if chosen is None else chosen
        self._active = [_ActiveFault(fault) for fault in plan.faults]
        self._fired = []
        if plan.faults:
            log.info("fault plan: %d faults, seed %d", len(plan.faults), self.seed)

    def reset_plan(self) -> None:
        """Restore the first plan and clear the fired faults."""
        self.load_plan(self._first)

    def stop(self) -> None:
        """Deactivate all faults; the fired ones stay readable."""
        self._active = []

    def may_fire_at(self, endpoint: Endpoint) -> bool:
        """Whether any fault of the plan is for this endpoint."""
        return any(endpoint in each.fault.on for each in self._active)

    def fire_faults(self, context: FaultContext) -> tuple[FiredFault, ...]:
        """Count a request and return the faults that fire, in the order of the plan."""
        return tuple(
            self._fire(active, context)
            for index, active in enumerate(self._active)
            if self._matches(index, active, context)
        )

    def document(self) -> dict[str, Any]:
        """Return seed, plan and fired faults as JSON for `GET /sandbox/faults`."""
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
                for each in self._active
            ],
            "fired": [each.document() for each in self._fired],
        }

    def _matches(self, index: int, active: _ActiveFault, context: FaultContext) -> bool:
        fault = active.fault
        if context.endpoint not in fault.on:
            return False
        seen = context.all_models and isinstance(fault.action, ChangeSchema | RetireModel)
        if not (seen or fault.applies_to(context.model)):
            return False
        active.matched += 1
        count = active.matched - fault.after
        if count < 1 or (fault.nth is not None and count != fault.nth):
            return False
        if fault.every is not None and count % fault.every:
            return False
        if fault.times is not None and active.fired >= fault.times:
            return False
        return fault.probability >= 1 or self._is_random_hit(index, active, context)

    def _is_random_hit(self, index: int, active: _ActiveFault, context: FaultContext) -> bool:
        about = f"{context.endpoint} {context.about()}"
        active.draws[about] += 1
        sample = Random(f"{self.seed} {index} {about} {active.draws[about]}").random()
        return sample < active.fault.probability

    def _fire(self, active: _ActiveFault, context: FaultContext) -> FiredFault:
        active.fired += 1
        number = len(self._fired) + 1
        firing = FiredFault(
            number=number,
            fault=active.fault,
            on=context.endpoint,
            model=context.model,
            at=self._clock.now(),
            count=active.matched,
            random=Random(f"{self.seed} {active.fault.name} {active.fired}"),
            prediction=context.prediction,
        )
        self._fired.append(firing)
        log.info("fault %d: %s on %s", number, active.fault.name, context.endpoint)
        return firing
