"""Replicate's limit on how long a run may take, counted in the model's own seconds."""

from __future__ import annotations

from dataclasses import replace

from mediagate_sandbox.run_script import RunScript, ScriptStep, TimeSpan


def with_run_limit(plan: RunScript, seconds: float | None) -> RunScript:
    """The plan; broken off as failed where it would run longer than `seconds`.

    A run that hangs does so in real time, so its limit passes in real time as well.
    """
    if seconds is None:
        return plan
    spent, kept = 0.0, list[ScriptStep]()
    for step in plan.steps:
        left = seconds - spent
        if step.after.model > left:
            real = step.after.real * left / step.after.model
            return _timed_out(plan, kept, TimeSpan(left, real), seconds)
        spent += step.after.model
        kept.append(step)
    if plan.ending == "hang":
        left = seconds - spent
        return _timed_out(plan, kept, TimeSpan(left, left), seconds)
    return plan


def _timed_out(
    plan: RunScript, steps: list[ScriptStep], last: TimeSpan, seconds: float
) -> RunScript:
    error = f"Prediction timed out after {seconds:g} seconds"
    return replace(
        plan, steps=(*steps, ScriptStep(last)), files=(), answer=None, ending="fail", error=error
    )
