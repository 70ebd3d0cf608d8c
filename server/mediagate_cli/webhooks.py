"""Commands `webhooks`: undelivered webhooks, redelivery, and rotation of signing secrets."""

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
    server: o.ServerOptions,
    tenant: Annotated[str, typer.Option(help="Whose; default: everybody's.")] = "",
    as_json: o.Json = False,
) -> None:
    """List the webhooks that were given up after ten tries in a day, oldest first."""

    async def work(client: "AsyncClient") -> None:
        undelivered = [webhook async for webhook in client.undelivered_webhooks(tenant)]
        if as_json:
            print_json([to_json(webhook) for webhook in undelivered])
        elif undelivered:
            _print_table(undelivered)
        else:
            print_error("Every webhook was delivered, or is still being tried.")

    run_with_client(server, work)


@webhooks.command()
@expand_option_groups
def redeliver(
    server: o.ServerOptions,
    webhook_id: Annotated[str, typer.Argument(help="Its id, as `webhooks list` shows it.")],
    as_json: o.Json = False,
) -> None:
    """Send a webhook once more, now. Exit code 3 where it is not accepted again."""

    async def work(client: "AsyncClient") -> None:
        sent = await client.redeliver_webhook(webhook_id)
        if as_json:
            print_json(to_json(sent))
        delivered = 200 <= sent.http_status < 300
        outcome = "delivered" if delivered else "not delivered"
        answer = f"status {sent.http_status}" if sent.http_status else "no answer"
        print_error(f"{sent.id}: {outcome}, {answer}, try {sent.tries}")
        if not delivered:
            raise typer.Exit(FAILED)

    run_with_client(server, work)


@webhooks.command(name="rotate-secret")
@expand_option_groups
def rotate_secret(
    server: o.ServerOptions,
    tenant: Annotated[str, typer.Argument(help="Whose webhooks.")] = "local",
    as_json: o.Json = False,
) -> None:
    """Make the first or a new secret. It is printed this once."""

    async def work(client: "AsyncClient") -> None:
        rotated = await client.rotate_webhook_secret(tenant)
        if as_json:
            print_json(to_json(rotated))
            return
        print(rotated.secret)
        if rotated.HasField("previous_expire_time"):
            until = rotated.previous_expire_time.ToDatetime().isoformat(" ", "minutes")
            print_error(f"  webhooks are signed with the one before, too, until {until} UTC")

    run_with_client(server, work)


def _print_table(undelivered: "list[UndeliveredWebhook]") -> None:
    from rich.table import Table

    table = Table(
        "id", "tenant", "generation", "host", "tries", "status", "last try (UTC)", box=None
    )
    for webhook in undelivered:
        table.add_row(
            webhook.id,
            webhook.tenant,
            webhook.generation_id,
            webhook.host,
            str(webhook.tries),
            str(webhook.http_status or "-"),
            webhook.last_try_time.ToDatetime().isoformat(" ", "seconds"),
        )
    wide_console().print(table)
