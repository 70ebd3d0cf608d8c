"""`webhooks`: what callers could not be told, told again; and what webhooks are signed with."""

from typing import TYPE_CHECKING, Annotated

import typer

from mediagate_cli import options as o
from mediagate_cli.connection import run_with_client
from mediagate_cli.exit_codes import FAILED, print_error
from mediagate_cli.option_groups import expand_option_groups
from mediagate_cli.output import print_json, to_json, wide_console

if TYPE_CHECKING:
    from mediagate.v1.admin_pb2 import UndeliveredWebhook
    from mediagate_client import AsyncClient

webhooks = typer.Typer(
    no_args_is_help=True,
    help="Webhooks to callers: what was not delivered, and secrets. Needs an admin's key.",
)


@webhooks.command(name="list")
@expand_option_groups
def list_webhooks(
    gate: o.ServerOptions,
    tenant: Annotated[str, typer.Option(help="Whose; default: everybody's.")] = "",
    as_json: o.Json = False,
) -> None:
    """List the webhooks that were given up after ten tries in a day, oldest first."""

    async def work(client: "AsyncClient") -> None:
        found = [one async for one in client.undelivered_webhooks(tenant)]
        if as_json:
            print_json([to_json(one) for one in found])
        elif found:
            _print_table(found)
        else:
            print_error("Every webhook was delivered, or is still being tried.")

    run_with_client(gate, work)


@webhooks.command()
@expand_option_groups
def redeliver(
    gate: o.ServerOptions,
    webhook_id: Annotated[str, typer.Argument(help="Its id, as `webhooks list` shows it.")],
    as_json: o.Json = False,
) -> None:
    """Send a webhook once more, now. Exit code 3 where it is not taken again."""

    async def work(client: "AsyncClient") -> None:
        sent = await client.redeliver_webhook(webhook_id)
        if as_json:
            print_json(to_json(sent))
        taken = 200 <= sent.http_status < 300
        answer = f"status {sent.http_status}" if sent.http_status else "no answer"
        print_error(
            f"{sent.id}: {'delivered' if taken else 'not delivered'}, {answer}, try {sent.tries}"
        )
        if not taken:
            raise typer.Exit(FAILED)

    run_with_client(gate, work)


@webhooks.command(name="rotate-secret")
@expand_option_groups
def rotate_secret(
    gate: o.ServerOptions,
    tenant: Annotated[str, typer.Argument(help="Whose webhooks.")] = "local",
    as_json: o.Json = False,
) -> None:
    """Make the first or a new secret. It is printed this once."""

    async def work(client: "AsyncClient") -> None:
        made = await client.rotate_webhook_secret(tenant)
        if as_json:
            print_json(to_json(made))
            return
        print(made.secret)
        if made.HasField("previous_expire_time"):
            until = made.previous_expire_time.ToDatetime().isoformat(" ", "minutes")
            print_error(f"  webhooks are signed with the one before, too, until {until} UTC")

    run_with_client(gate, work)


def _print_table(found: "list[UndeliveredWebhook]") -> None:
    from rich.table import Table

    table = Table(
        "id", "tenant", "generation", "host", "tries", "status", "last try (UTC)", box=None
    )
    for one in found:
        table.add_row(
            one.id,
            one.tenant,
            one.generation_id,
            one.host,
            str(one.tries),
            str(one.http_status or "-"),
            one.last_try_time.ToDatetime().isoformat(" ", "seconds"),
        )
    wide_console().print(table)
