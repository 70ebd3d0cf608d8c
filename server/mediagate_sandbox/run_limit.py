"""Limit of a run's duration, in model seconds."""

from __future__ import annotations

from dataclasses import replace

from mediagate_sandbox.run_script import RunScript, ScriptStep, TimeSpan


def with_run_limit(script: RunScript, seconds: float | None) -> RunScript:
    """Return the script; cut off as failed where it would run longer than `seconds`.

    A run that hangs does so in real time, so its limit passes in real time as well.
    """
    if seconds is None:
        return script
    spent, emitted = 0.0, list[ScriptStep]()
    for step in script.steps:
        left = seconds - spent
        if step.after.model > left:
            real = step.after.real * left / step.after.model
            return _timed_out(script, emitted, TimeSpan(left, real), seconds)
        spent += step.after.model
        emitted.append(step)
    if script.ending == "hang":
        left = seconds - spent
        return _timed_out(script, emitted, TimeSpan(left, left), seconds)
    return script


def _timed_out(
    script: RunScript, steps: list[ScriptStep], last: TimeSpan, seconds: float
) -> RunScript:
    error = f"Prediction timed out after {seconds:g} seconds"
    return replace(
        script, steps=(*steps, ScriptStep(last)), files=(), answer=None, ending="fail", error=error
    )
