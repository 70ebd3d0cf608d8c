"""Costs and sizes as people read them."""

from decimal import Decimal
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from mediagate.v1.cost_pb2 import Cost

NANOS: Final = 1_000_000_000


def format_usd(usd_nanos: int) -> str:
    """Return nano-dollars as dollars: exact, without idle zeros, with two places at least."""
    amount = Decimal(usd_nanos).scaleb(-9).quantize(Decimal("1.000000000"))
    whole, _, places = f"{amount:f}".partition(".")
    return f"${whole}.{places.rstrip('0').ljust(2, '0')}"


def format_cost(cost: "Cost") -> str:
    """Return a cost and how sure it is. What is not known is said so, never shown as zero."""
    from mediagate.v1.cost_pb2 import CostState

    state = CostState.Name(cost.state).removeprefix("COST_STATE_").lower()
    if not cost.HasField("usd_nanos"):
        return "unknown"
    return f"{format_usd(cost.usd_nanos)} {state}" if cost.state else format_usd(cost.usd_nanos)


def summary_line(
    generation_id: str, model: str, cost: "Cost", *, sandbox: bool, tokens: int | None = None
) -> str:
    """Return one line about a finished generation: its id, its model, its cost."""
    facts = [model]
    if tokens is not None:
        facts.append(f"{tokens} tokens")
    facts.append(format_cost(cost))
    if sandbox:
        facts.append("from the sandbox: nothing was paid")
    return f"{generation_id}: {', '.join(facts)}"


def parse_usd_nanos(dollars_: str) -> int:
    """Return a sum in dollars, as typed, in nano-dollars. BadParameter if it is none."""
    try:
        amount = Decimal(dollars_) * NANOS
        exact = amount == amount.to_integral_value()
    except ArithmeticError:
        raise typer.BadParameter(f"{dollars_!r} is not a sum in dollars") from None
    if not exact or not amount.is_finite() or amount < 0:
        raise typer.BadParameter(f"{dollars_!r} is not a sum in dollars, down to nano-dollars")
    return int(amount)


def format_bytes(size: int) -> str:
    """Return a file's size with a unit: 999 B, 24.1 kB, 3.2 MB."""
    if size < 1000:
        return f"{size} B"
    if size < 1000**2:
        return f"{size / 1000:.1f} kB"
    return f"{size / 1000**2:.1f} MB"
