"""Command `reconcile`: discrepancies between the ledger and upstream's list of predictions."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from mediagate_cli import options as o
from mediagate_cli.connection import run_with_client
from mediagate_cli.exit_codes import REFUSED, print_error
from mediagate_cli.format import format_usd
from mediagate_cli.option_groups import expand_option_groups
from mediagate_cli.output import print_json, to_json, wide_console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mediagate.v1.usage_pb2 import (
        Discrepancy,
        GetReconciliationResponse,
        ReconciliationCounts,
    )
    from mediagate_client import AsyncClient


@expand_option_groups
def reconcile(
    server: o.ServerOptions,
    hours: Annotated[float, typer.Option(help="How far back.", min=0, max=2_160)] = 24.0,
    check: Annotated[
        bool, typer.Option("--check", help="End with 1 where something was found.")
    ] = False,
    as_json: o.Json = False,
) -> None:
    """Show discrepancies between the ledger and upstream's list of predictions.

    The server compares the two every few minutes. It finds charges whose prediction upstream
    does not have, predictions that belong to no generation, and predictions that now cost another
    amount. Needs an admin's key.
    """

    async def work(client: "AsyncClient") -> None:
        since = datetime.now(UTC) - timedelta(hours=hours)
        response = await client.get_reconciliation(start_time=since)
        if as_json:
            print_json(to_json(response))
        else:
            _print_discrepancies(response.discrepancies)
            print_error(_format_last_pass(response))
            print_error(f"Within {hours:g} hours: {_format_counts(response.counts)}.")
        if check and _count_discrepancies(response.counts):
            raise typer.Exit(REFUSED)

    run_with_client(server, work)


def _print_discrepancies(cases: "Sequence[Discrepancy]") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("WHAT", "PREDICTION", "MODEL", "GENERATION", "LEDGER", "UPSTREAM", "FOUND"):
        table.add_column(heading, overflow="fold")
    for case in cases:
        table.add_row(
            case.Kind.Name(case.kind).removeprefix("KIND_").lower(),
            case.prediction_id,
            case.model,
            case.generation_id,
            format_usd(case.ledger_usd_nanos) if case.HasField("ledger_usd_nanos") else "",
            format_usd(case.upstream_usd_nanos) if case.HasField("upstream_usd_nanos") else "",
            f"{case.find_time.ToDatetime(UTC):%Y-%m-%d %H:%M:%S}",
        )
    if cases:
        wide_console().print(table)


def _format_last_pass(response: "GetReconciliationResponse") -> str:
    if not response.HasField("last_pass"):
        return "No pass was made yet."
    last = response.last_pass
    ended = f"{last.end_time.ToDatetime(UTC):%Y-%m-%d %H:%M:%S} UTC"
    if not last.complete:
        return f"The last pass, {ended}, could not read upstream's list to its end."
    return f"The last pass, {ended}, read {last.listed} predictions: {_format_counts(last.counts)}."


def _format_counts(counts: "ReconciliationCounts") -> str:
    words = (
        f"{counts.matched} matched, {counts.missing} missing upstream, "
        f"{counts.orphans} not ours, {counts.cost_differs} of another cost"
    )
    return f"{words}, {counts.foreign} of others" if counts.foreign else words


def _count_discrepancies(counts: "ReconciliationCounts") -> int:
    return counts.missing + counts.orphans + counts.cost_differs
