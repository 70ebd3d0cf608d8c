"""Formatting of costs, states, verdicts and file sizes; parsing of dollars."""

from decimal import Decimal
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from mediagate.v1.cost_pb2 import Cost
    from mediagate.v1.generation_pb2 import Generation
    from mediagate.v1.plan_pb2 import Substitution
    from mediagate.v1.verdict_pb2 import SafetyVerdict

NANOS: Final = 1_000_000_000


def format_usd(usd_nanos: int) -> str:
    """Format nano-dollars as dollars: exact, at least two decimals, no trailing zeros beyond."""
    amount = Decimal(usd_nanos).scaleb(-9).quantize(Decimal("1.000000000"))
    dollars, _, decimals = f"{amount:f}".partition(".")
    return f"${dollars}.{decimals.rstrip('0').ljust(2, '0')}"


def format_cost(cost: "Cost") -> str:
    """Format a cost and its state. An unknown cost is "unknown", never zero."""
    from mediagate.v1.cost_pb2 import CostState

    state = CostState.Name(cost.state).removeprefix("COST_STATE_").lower()
    if not cost.HasField("usd_nanos"):
        return "unknown"
    return f"{format_usd(cost.usd_nanos)} {state}" if cost.state else format_usd(cost.usd_nanos)


def summary_line(
    generation_id: str, model: str, cost: "Cost", *, sandbox: bool, tokens: int | None = None
) -> str:
    """Format a finished generation as one line: id, model, tokens, cost."""
    facts = [model]
    if tokens is not None:
        facts.append(f"{tokens} tokens")
    facts.append(format_cost(cost))
    if sandbox:
        facts.append("from the sandbox: nothing was paid")
    return f"{generation_id}: {', '.join(facts)}"


def stand_in_line(model: str, substitution: "Substitution") -> str:
    """Format the note that another model than the one asked for has run."""
    return f"  {model} stands in for {substitution.requested_model}: {substitution.reason}"


def state_word(generation: "Generation") -> str:
    """Return the state of a generation as a word."""
    return type(generation).State.Name(generation.state).removeprefix("STATE_").lower()


def format_verdict(verdict: "SafetyVerdict") -> str:
    """Return a verdict as a line: `unsafe: S1 Violent Crimes, S10 Hate`."""
    if verdict.verdict == verdict.VERDICT_SAFE:
        return "safe"
    reasons = [f"{category.code} {category.name}" for category in verdict.categories]
    if verdict.unreadable:
        reasons.append("the model's answer could not be read")
    return f"unsafe: {', '.join(reasons)}" if reasons else "unsafe"


def parse_usd_nanos(text: str) -> int:
    """Parse an amount in dollars to nano-dollars. Raises BadParameter."""
    try:
        amount = Decimal(text) * NANOS
        exact = amount == amount.to_integral_value()
    except ArithmeticError:
        raise typer.BadParameter(f"{text!r} is not a sum in dollars") from None
    if not exact or not amount.is_finite() or amount < 0:
        raise typer.BadParameter(f"{text!r} is not a sum in dollars, down to nano-dollars")
    return int(amount)


def format_bytes(size: int) -> str:
    """Format a file size with a unit: 999 B, 24.1 kB, 3.2 MB."""
    if size < 1000:
        return f"{size} B"
    if size < 1000**2:
        return f"{size / 1000:.1f} kB"
    return f"{size / 1000**2:.1f} MB"
