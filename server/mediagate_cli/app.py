"""The Typer application: every command by name."""

import importlib.metadata
from typing import Annotated

import typer

from mediagate_cli import (
    audio,
    catalog_check,
    check,
    costs,
    demo,
    generations,
    image,
    models,
    reconcile,
    run,
    sandbox,
    serve,
    text,
    upload_and_save,
    video,
    webhooks,
)

app = typer.Typer(
    name="mediagate",
    help="Command line of Mediagate, a typed, metered gRPC service for every Replicate model.",
    epilog="Exit codes: 0 done, 1 refused (nothing made, nothing paid), 2 wrong command line, "
    "3 failed (it may have cost money), 4 not at its end yet, 129, 130 interrupted or 143 by a "
    "signal, 141 the reader of stdout has left.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(version: bool) -> None:
    if version:
        typer.echo(importlib.metadata.version("mediagate"))
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Command line of Mediagate, a typed, metered gRPC service for every Replicate model."""


app.command()(text.text)
app.command()(image.image)
app.command()(video.video)
app.command()(audio.audio)
app.command()(check.check)
app.command()(run.run)
app.command()(models.models)
app.command()(models.show)
app.command(name="list")(generations.list_generations)
app.command()(generations.watch)
app.command()(generations.wait)
app.command()(generations.cancel)
app.command()(generations.delete)
app.command()(upload_and_save.save)
app.command()(reconcile.reconcile)
app.command()(upload_and_save.upload)
app.command()(demo.demo)
app.command()(serve.serve)
app.command(epilog=sandbox.USAGE_EXAMPLES)(sandbox.sandbox)
app.add_typer(serve.configuration, name="config")
app.add_typer(catalog_check.catalog, name="catalog")
app.add_typer(costs.costs, name="costs")
app.add_typer(webhooks.webhooks, name="webhooks")
