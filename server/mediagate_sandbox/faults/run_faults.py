"""Run faults: failed runs, wrong output, wrong id, changed price."""

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


def apply_run_faults(
    request: PredictionRequest, firings: Sequence[FiredFault]
) -> PredictionRequest:
    """Return the request with the faults applied to its run script."""
    script = request.script
    for firing in firings:
        match firing.fault.action:
            case Fail(error=error, tokens=tokens):
                steps = script.steps
                if request.model.streams:
                    steps = _up_to_token(steps, tokens)
                script = replace(script, steps=steps, ending="fail", error=error)
            case Abort():
                script = replace(script, steps=(), ending="abort")
            case EmptyOutput():
                script = replace(script, steps=_silent(script), files=(), answer=None)
            case ForeignOutput(origin=origin):
                script = replace(script, files_origin=origin)
    return replace(request, script=script)


def price_factor(firings: Sequence[FiredFault]) -> Fraction:
    """Return the price factor of this prediction."""
    factor = Fraction(1)
    for firing in firings:
        if isinstance(firing.fault.action, DriftPrice):
            factor *= Fraction(firing.fault.action.factor)
    return factor


def list_delay(firings: Sequence[FiredFault]) -> timedelta:
    """Return how long the prediction is left out of lists."""
    late = [
        firing.fault.action.ms for firing in firings if isinstance(firing.fault.action, ListLate)
    ]
    return timedelta(milliseconds=max(late, default=0.0))


def answers_other_prediction(firings: Sequence[FiredFault]) -> bool:
    """Whether the create is answered with the id of another prediction."""
    return any(isinstance(firing.fault.action, DuplicateId) for firing in firings)


def _up_to_token(steps: tuple[ScriptStep, ...], tokens: int) -> tuple[ScriptStep, ...]:
    """Return the steps up to so many tokens."""
    numbers = [at for at, step in enumerate(steps) if step.token is not None]
    return steps[: numbers[tokens]] if tokens < len(numbers) else steps


def _silent(plan: RunScript) -> tuple[ScriptStep, ...]:
    """Return the steps without a token."""
    return tuple(step for step in plan.steps if step.token is None)
