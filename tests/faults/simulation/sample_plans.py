"""What is asked for in a simulation: three models, and what their runs cost."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Final

from mediagate_server.catalog.models.model import OutputKind, OutputShape
from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.pricing.prices import Estimate, PriceRate, PriceSchedule, Tier
from mediagate_server.catalog.request import Modality
from mediagate_server.generations.execution.execution_plan import ExecutionPlan
from mediagate_server.structs import replace

RATES: Final = {
    "sim/text": Fraction("0.00073"),
    "sim/other-text": Fraction("0.0019"),
    "sim/picture": Fraction("0.0251"),
    "sim/guard": Fraction("0.0000333"),
}
"""USD per second that ran."""

_SHAPES: Final = {
    Modality.TEXT: OutputShape(OutputKind.TEXT_CHUNKS, media_type="text/plain"),
    Modality.IMAGE: OutputShape(OutputKind.MEDIA_LIST, media_type="image/png"),
    Modality.SAFETY: OutputShape(OutputKind.VERDICT, "llama_guard_3", "text/plain"),
}


def nanos(slug: str, seconds: Decimal) -> int:
    """What a run costs, by upstream's own arithmetic."""
    return int(RATES[slug] * Fraction(seconds) * 10**9 + Fraction(1, 2))


def plan(slug: str, modality: Modality, prompt: str) -> Plan:
    """One run."""
    rate = PriceRate(("predict_time",), Decimal(str(float(RATES[slug]))), 1)
    return Plan(
        modality=modality,
        requested_model=slug,
        slug=slug,
        target=slug,
        input={"prompt": prompt},
        report=(),
        seed=None,
        streams=modality is Modality.TEXT,
        output=_SHAPES[modality],
        output_count=1,
        price=PriceSchedule((Tier((rate,)),), "2026-11-24", "simulated"),
        estimate=Estimate(0, 10**7, 10**9),
        max_run=600,
    )


def random_plan(random: Random, prompt: str) -> ExecutionPlan:
    """A text, with another model behind it or not, or one picture or more; some are screened."""
    guard = plan("sim/guard", Modality.SAFETY, prompt) if random.random() < 0.15 else None
    if random.random() < 0.6:
        chain = [plan("sim/text", Modality.TEXT, prompt)]
        if random.random() < 0.4:
            chain.append(plan("sim/other-text", Modality.TEXT, prompt))
        return ExecutionPlan.of(*chain, screening=guard)
    picture = plan("sim/picture", Modality.IMAGE, prompt)
    count = random.choice((1, 1, 2, 3))
    picture = replace(picture, runs=count, seed=7, seed_input="seed")
    picture = replace(picture, input={**picture.input, "seed": 7})
    return ExecutionPlan.of(picture, screening=guard)
