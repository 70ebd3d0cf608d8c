"""Deadline propagation over a fallback chain: how long one model may take before the next begins.

Each model gets its usual run first, then up to its longest, and what is left over in proportion to
that. Where the timeout has no room for another model's usual run beside the own, none is kept free.
"""

from typing import Final

from mediagate_server.catalog.chains import Usual, usual_of
from mediagate_server.catalog.plan import Plan

_HANDOVER: Final = 2.0
"""Seconds in which a run that is given up is cancelled and settled, before the next is sent."""


def time_share(
    plans: tuple[Plan, ...],
    model: str,
    seconds: float,
    *,
    shortest: float,
    usual: Usual = usual_of,
) -> float | None:
    """Seconds of those left that this model's run may take; None: all, nobody could follow it.

    `plans` are the chain, `shortest` is the shortest run that upstream can be held to, `usual`
    tells how long a run takes as a rule.
    """
    models = [plan.slug for plan in plans]
    if model not in models:
        return None
    at = models.index(model)
    least = [max(usual(plans[at]), shortest)]
    longest = [max(float(plans[at].max_run), least[0])]
    for plan in plans[at + 1 :]:
        needed = max(usual(plan), shortest) + _HANDOVER
        if sum(least) + needed <= seconds:
            least.append(needed)
            longest.append(max(plan.max_run + _HANDOVER, needed))
    if len(least) == 1:
        return None
    room = sum(longest) - sum(least)
    if room and seconds < sum(longest):
        return least[0] + (seconds - sum(least)) * (longest[0] - least[0]) / room
    return seconds * longest[0] / sum(longest)
