"""Replicate's limit on how long a run may take, counted in the model's own seconds."""

from __future__ import annotations

from dataclasses import replace

from mediagate_sandbox.plans import Plan, Span, Step


def within(plan: Plan, seconds: float | None) -> Plan:
    """The plan; broken off as failed where it would run longer than `seconds`.

    A run that hangs does so in real time, so its limit passes in real time as well.
    """
    if seconds is None:
        return plan
    spent, kept = 0.0, list[Step]()
    for step in plan.steps:
        left = seconds - spent
        if step.after.model > left:
            real = step.after.real * left / step.after.model
            return _timed_out(plan, kept, Span(left, real), seconds)
        spent += step.after.model
        kept.append(step)
    if plan.ending == "hang":
        left = seconds - spent
        return _timed_out(plan, kept, Span(left, left), seconds)
    return plan


def _timed_out(plan: Plan, steps: list[Step], last: Span, seconds: float) -> Plan:
    error = f"Prediction timed out after {seconds:g} seconds"
    return replace(
        plan, steps=(*steps, Step(last)), files=(), answer=None, ending="fail", error=error
    )
