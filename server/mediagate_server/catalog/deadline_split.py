"""Deadline propagation over a fallback chain: how long one model may take before the next begins.

Each model gets its usual run first, then up to its longest, and what is left over in proportion to
that. Where the timeout has no room for another model's usual run beside the own, none is kept free.
"""

from typing import Final

from mediagate_server.catalog.plan import Plan

_HANDOVER: Final = 2.0
"""Seconds in which a run that is given up is cancelled and settled, before the next is sent."""


def time_share(
    plans: tuple[Plan, ...], model: str, seconds: float, *, shortest: float
) -> float | None:
    """Seconds of those left that this model's run may take; None: all, nobody could follow it.

    `plans` are the chain, `shortest` is the shortest run that upstream can be held to.
    """
    models = [plan.slug for plan in plans]
    if model not in models:
        return None
    at = models.index(model)
    usual = [_usual(plans[at], shortest)]
    longest = [max(float(plans[at].max_run), usual[0])]
    for plan in plans[at + 1 :]:
        needed = _usual(plan, shortest) + _HANDOVER
        if sum(usual) + needed <= seconds:
            usual.append(needed)
            longest.append(max(plan.max_run + _HANDOVER, needed))
    if len(usual) == 1:
        return None
    room = sum(longest) - sum(usual)
    if room and seconds < sum(longest):
        return usual[0] + (seconds - sum(usual)) * (longest[0] - usual[0]) / room
    return seconds * longest[0] / sum(longest)


def _usual(plan: Plan, shortest: float) -> float:
    return max(float(plan.usual_run), shortest)
