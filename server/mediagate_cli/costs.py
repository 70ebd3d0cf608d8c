"""Commands `costs` (totals of the ledger) and `costs compare` (an invoice against the ledger)."""

from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer

from mediagate_cli import options as o
from mediagate_cli.connection import run_with_client
from mediagate_cli.date_range import DateRange
from mediagate_cli.exit_codes import REFUSED, print_error
from mediagate_cli.format import format_usd
from mediagate_cli.option_groups import expand_option_groups
from mediagate_cli.output import enum_word, print_json, to_json, wide_console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mediagate.v1.usage_pb2 import UsageTotal
    from mediagate_cli.invoice_comparison import Difference
    from mediagate_client import AsyncClient
    from mediagate_client.arguments import DimensionName

_EVERYBODY: Final = "*"

costs = typer.Typer(
    invoke_without_command=True,
    help="Totals of what was spent, and their comparison with an invoice.",
)


class Group(StrEnum):
    """Dimension that totals are grouped by."""

    MODEL = "model"
    DAY = "day"
    MODALITY = "modality"
    TENANT = "tenant"
    PRICE = "price"


Month = Annotated[str | None, typer.Option(help="YYYY-MM, in UTC. Default: the running month.")]
AsTenant = Annotated[str | None, typer.Option(help="Whose; needs an admin's key.")]
Everybody = Annotated[
    bool, typer.Option("--all-tenants", help="Everybody's; needs an admin's key.")
]


@costs.callback()
@expand_option_groups
def _costs(
    context: typer.Context,
    server: o.ServerOptions,
    by: Annotated[
        list[Group] | None, typer.Option(help="Up to three; default: model.", metavar="GROUP")
    ] = None,
    by_label: Annotated[str | None, typer.Option(help="Also by the value of this label.")] = None,
    month: Month = None,
    since: Annotated[str | None, typer.Option(help="First day, YYYY-MM-DD in UTC.")] = None,
    until: Annotated[str | None, typer.Option(help="Last day.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Only these, by slug; may be repeated.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE: only with these; may be repeated.")
    ] = None,
    tenant: AsTenant = None,
    all_tenants: Everybody = False,
    as_json: o.Json = False,
) -> None:
    """Add up what was spent in the running month, or another time.

    Groups are model, day, modality, tenant and price: the row of the price list that was charged
    by. What an assumed price settled, and what is unknown, are apart.
    """
    if context.invoked_subcommand:
        return
    period = DateRange.of(month, since, until)
    groups: list[str] = [group.value for group in by or ()]
    if by_label:
        groups.append("label")
    groups = list(dict.fromkeys(groups)) or ["model"]

    async def work(client: "AsyncClient") -> None:
        totals = await client.get_usage(
            group_by=cast("Sequence[DimensionName]", groups),
            label_key=by_label or "",
            start_time=period.start,
            end_time=period.end,
            models=model or (),
            labels=o.parse_labels(label) or {},
            tenant=_EVERYBODY if all_tenants else tenant or "",
        )
        if as_json:
            print_json([to_json(total) for total in totals])
        else:
            _print_totals(totals, groups, by_label or "")
            print_error(f"{period}.")

    run_with_client(server, work)


@costs.command()
@expand_option_groups
def compare(
    server: o.ServerOptions,
    file: Annotated[Path, typer.Argument(help="The invoice's lines, CSV or JSON; `-` is stdin.")],
    month: Month = None,
    tolerance: Annotated[str, typer.Option(help="Percent that a model may be off.")] = "0.5",
    tenant: AsTenant = None,
    as_json: o.Json = False,
) -> None:
    """Compare a month's invoice with the ledger, model by model. Ends with 1 where they differ.

    CSV has the columns model and amount_usd, and may have month (YYYY-MM); JSON is a list of
    objects with these fields. Models go by slug or alias, and several lines of one are added up.
    The month is that of --month, or else of the file. Of all tenants, unless one is named.
    """
    from mediagate_cli.invoice_comparison import ComparisonVerdict
    from mediagate_cli.invoice_comparison import compare_invoice as compared
    from mediagate_cli.invoices import InvoiceError, read_invoice

    allowed = _percent(tolerance)
    try:
        invoice = read_invoice(o.read_text(file))
    except InvoiceError as error:
        raise typer.BadParameter(str(error), param_hint="FILE") from None
    if invoice.month and not month:
        period = DateRange.of_month(invoice.month, "FILE")
    else:
        period = DateRange.of(month or None, None, None)

    async def work(client: "AsyncClient") -> None:
        totals = await client.get_usage(
            group_by=("model",),
            start_time=period.start,
            end_time=period.end,
            tenant=tenant or _EVERYBODY,
        )
        aliases = {
            alias.casefold(): model.slug.casefold()
            for model in await client.models()
            for alias in model.aliases
        }
        differences = compared(totals, invoice.amounts, allowed, aliases)
        differing = sum(
            difference.verdict is not ComparisonVerdict.AGREES for difference in differences
        )
        if as_json:
            print_json([_difference_json(difference) for difference in differences])
        else:
            _print_differences(differences)
        print_error(
            f"{period}: {len(differences)} models, {differing} further apart than {tolerance} %."
        )
        if differing:
            raise typer.Exit(REFUSED)

    run_with_client(server, work)


def _percent(text: str) -> Decimal:
    try:
        percent = Decimal(text)
    except InvalidOperation:
        percent = Decimal("NaN")
    if not (percent.is_finite() and 0 <= percent <= 100):
        raise typer.BadParameter("must be a percentage from 0 to 100", param_hint="--tolerance")
    return percent


def _print_totals(totals: "Sequence[UsageTotal]", groups: "Sequence[str]", label: str) -> None:
    """Print a row for each group, and the sums below."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=len(totals) > 1)
    for group in groups:
        table.add_column((label if group == "label" else group).upper(), overflow="fold")
    sums = _amounts(
        sum(total.charges for total in totals),
        sum(total.settled_usd_nanos for total in totals),
        sum(total.assumed_usd_nanos for total in totals),
        sum(total.unknown_charges for total in totals),
    )
    headings = ("CHARGES", "SETTLED", "ASSUMED", "UNKNOWN")
    for heading, footer in zip(headings, sums, strict=True):
        table.add_column(heading, footer, justify="right", no_wrap=True)
    for total in totals:
        amounts = _amounts(
            total.charges,
            total.settled_usd_nanos,
            total.assumed_usd_nanos,
            total.unknown_charges,
        )
        table.add_row(*(_value(total, group) for group in groups), *amounts)
    if totals:
        wide_console().print(table)
    else:
        print("Nothing was spent.")


def _amounts(charges: int, settled: int, assumed: int, unknown: int) -> tuple[str, ...]:
    """Return the cells of a row; no assumed or unknown charge is an empty one."""
    return (
        str(charges),
        format_usd(settled),
        format_usd(assumed) if assumed else "",
        str(unknown) if unknown else "",
    )


def _value(total: "UsageTotal", group: str) -> str:
    """Return the value of one dimension of a total."""
    match group:
        case "modality":
            return enum_word("Modality", total.modality)
        case "price":
            dated = total.price_date or "unknown"
            return f"{dated}: {total.price_tier}" if total.price_tier else dated
        case "label":
            return total.label_value
        case _:
            return str(getattr(total, group))


def _print_differences(differences: "Sequence[Difference]") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("MODEL", "LEDGER", "ASSUMED", "UNKNOWN", "INVOICE", "OFF BY", ""):
        left = heading in ("MODEL", "")
        table.add_column(heading, justify="left" if left else "right", overflow="fold")
    for difference in differences:
        table.add_row(
            difference.model,
            format_usd(difference.ledger),
            format_usd(difference.assumed) if difference.assumed else "",
            str(difference.unknown) if difference.unknown else "",
            _usd(difference.invoice),
            f"{difference.percent:+.2f} %",
            difference.verdict.value,
        )
    wide_console().print(table)


def _usd(nanos: Decimal) -> str:
    """Format nano-dollars; an invoice may also be negative."""
    rounded = int(nanos.to_integral_value())
    return f"-{format_usd(-rounded)}" if rounded < 0 else format_usd(rounded)


def _difference_json(difference: "Difference") -> dict[str, object]:
    return {
        "model": difference.model,
        "ledger_usd": _usd(Decimal(difference.ledger)).replace("$", ""),
        "assumed_usd": _usd(Decimal(difference.assumed)).replace("$", ""),
        "unknown_charges": difference.unknown,
        "invoice_usd": _usd(difference.invoice).replace("$", ""),
        "off_by_percent": float(round(difference.percent, 4)),
        "verdict": difference.verdict.value,
    }
