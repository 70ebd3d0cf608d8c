"""Command `catalog check`: compares the catalog with what upstream publishes."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mediagate_cli.exit_codes import REFUSED, print_error
from mediagate_cli.output import print_json, wide_console

if TYPE_CHECKING:
    from mediagate_server.catalog.catalog import Catalog
    from mediagate_server.catalog.drift import CatalogFinding
    from mediagate_server.catalog.models.model import Model
    from mediagate_server.config import Settings
    from mediagate_server.upstream.replicate.client import ReplicateClient

_CONNECT_SECONDS: Final = 2.0

catalog = typer.Typer(no_args_is_help=True, help="The models that the server offers.")


@catalog.callback()
def _catalog() -> None:
    """The models that the server offers."""


@catalog.command()
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Slugs or aliases; default: all.", metavar="[MODEL]..."),
    ] = None,
    offline: Annotated[bool, typer.Option(help="Look at prices only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the catalog with upstream's models and schemas, and look at the age of its prices.

    Uses the settings of `mediagate serve`, spends nothing, needs no running server. Ends with 1
    where something would go wrong: a model or version that is gone, an input that has changed.
    """
    from mediagate_server.catalog.live import build_catalog
    from mediagate_server.config import ConfigError, load_settings

    try:
        settings = load_settings()
        catalog = build_catalog(settings)
        selected = _select_models(catalog, names or [])
        findings = asyncio.run(_compare(selected, settings, offline=offline))
    except ConfigError as error:
        print_error(str(error))
        raise typer.Exit(REFUSED) from None
    broken = [finding for finding in findings if finding.is_breaking]
    if as_json:
        print_json([_finding_json(finding) for finding in findings])
    else:
        _print_findings(findings)
    print_error(
        f"{len(selected)} models: {len(findings)} findings, {len(broken)} of which break something."
    )
    if broken:
        raise typer.Exit(REFUSED)


def _select_models(catalog: "Catalog", names: list[str]) -> "list[Model]":
    if not names:
        return list(catalog.models())
    from mediagate_server.errors import suggestion_text

    by_name = {name: catalog.find_by_name(name) for name in names}
    unknown = [
        f"{name}{suggestion_text(catalog.nearest_names(name))}"
        for name, model in by_name.items()
        if model is None
    ]
    if unknown:
        raise typer.BadParameter(f"no model is called {', '.join(unknown)}")
    return [model for model in by_name.values() if model is not None]


async def _compare(
    models: "list[Model]", settings: "Settings", *, offline: bool
) -> "list[CatalogFinding]":
    """Return the differences; upstream is read once for each model, offline not at all."""
    from mediagate_server.catalog.drift import check_catalog as checked
    from mediagate_server.catalog.drift import check_price
    from mediagate_server.catalog.published_models import PublishedModelRegistry

    today = datetime.now(UTC).date()
    if offline:
        live = (model for model in models if model.status.value == "live")
        return [finding for model in live for finding in check_price(model, today)]
    from contextlib import AsyncExitStack

    from mediagate_server.upstream.replicate.client import ReplicateClient
    from mediagate_server.upstream.settings import ReplicateSettings

    choice = settings.upstream_choice()
    async with AsyncExitStack() as stack:
        base_url = choice.base_url
        if choice.kind == "sandbox":
            from mediagate_sandbox.server import Sandbox, SandboxSettings

            sandbox = await stack.enter_async_context(Sandbox(SandboxSettings(port=0)))
            base_url = sandbox.base_url
        client = await stack.enter_async_context(
            ReplicateClient(
                ReplicateSettings(
                    base_url=base_url, token=choice.token, connect_timeout=_CONNECT_SECONDS
                )
            )
        )
        await _check_reachable(client, models)
        official = {model.slug: model.kind.value == "official" for model in models}
        published = PublishedModelRegistry(client, knows_official=official.get)
        return await checked(models, published.find, today)


async def _check_reachable(client: "ReplicateClient", models: "list[Model]") -> None:
    """End the command if upstream is unreachable or refuses the token, in a line and not in one
    for each model.
    """
    from mediagate_server.upstream.port import RefusalReason, RequestRefused, UpstreamError

    try:
        for model in models[:1]:
            await client.get_model(model.slug)
    except UpstreamError as error:
        if isinstance(error, RequestRefused) and error.refusal is RefusalReason.UNREACHABLE:
            print_error("mediagate: upstream cannot be reached (UPSTREAM_UNAVAILABLE)")
            raise typer.Exit(REFUSED) from None
        if isinstance(error, RequestRefused) and error.refusal is RefusalReason.ACCOUNT:
            print_error(
                "mediagate: upstream refuses the account (UPSTREAM_ACCOUNT); "
                "look at REPLICATE_API_TOKEN"
            )
            raise typer.Exit(REFUSED) from None


def _print_findings(findings: "list[CatalogFinding]") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("MODEL", "KIND", "WHAT"):
        table.add_column(heading, no_wrap=heading != "WHAT", overflow="fold")
    for finding in sorted(findings, key=lambda each: not each.is_breaking):
        kind = f"{finding.kind.value} !" if finding.is_breaking else finding.kind.value
        table.add_row(finding.model, kind, finding.message)
    if findings:
        wide_console().print(table)


def _finding_json(finding: "CatalogFinding") -> dict[str, object]:
    return {
        "model": finding.model,
        "kind": finding.kind.value,
        "what": finding.message,
        "breaks": finding.is_breaking,
    }
