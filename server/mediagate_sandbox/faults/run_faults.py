"""Carries out the faults that strike a prediction: how it runs, what it shows, what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction

from mediagate_sandbox.faults.actions import (
    Abort,
    DriftPrice,
    DuplicateId,
    EmptyOutput,
    Fail,
    ForeignOutput,
    ListLate,
)
from mediagate_sandbox.faults.engine import FiredFault
from mediagate_sandbox.predictions import PredictionRequest
from mediagate_sandbox.run_script import RunScript, ScriptStep


def apply_run_faults(order: PredictionRequest, firings: Sequence[FiredFault]) -> PredictionRequest:
    """The order with the run that the faults want."""
    plan = order.plan
    for firing in firings:
        match firing.fault.action:
            case Fail(error=error, tokens=tokens):
                steps = plan.steps[:tokens] if order.model.streams else plan.steps
                plan = replace(plan, steps=steps, ending="fail", error=error)
            case Abort():
                plan = replace(plan, steps=(), ending="abort")
            case EmptyOutput():
                plan = replace(plan, steps=_silent(plan), files=(), answer=None)
            case ForeignOutput(origin=origin):
                plan = replace(plan, files_origin=origin)
    return replace(order, plan=plan)


def price_factor(firings: Sequence[FiredFault]) -> Fraction:
    """How far the price has drifted for this prediction."""
    factor = Fraction(1)
    for firing in firings:
        if isinstance(firing.fault.action, DriftPrice):
            factor *= Fraction(firing.fault.action.factor)
    return factor


def list_delay(firings: Sequence[FiredFault]) -> timedelta:
    """How long after it was made the prediction is left out of the list."""
    late = [
        firing.fault.action.ms for firing in firings if isinstance(firing.fault.action, ListLate)
    ]
    return timedelta(milliseconds=max(late, default=0.0))


def answers_other_prediction(firings: Sequence[FiredFault]) -> bool:
    """Whether the create is answered with the id of another prediction."""
    return any(isinstance(firing.fault.action, DuplicateId) for firing in firings)


def _silent(plan: RunScript) -> tuple[ScriptStep, ...]:
    """The steps that put out no token."""
    return tuple(step for step in plan.steps if step.token is None)
