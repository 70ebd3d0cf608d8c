"""Commands `serve` and `config check`."""

from pathlib import Path
from typing import Annotated

import typer

from mediagate_cli.exit_codes import print_error

configuration = typer.Typer(no_args_is_help=True, help="The server's configuration.")


def serve() -> None:
    """Start the server. Settings come from MEDIAGATE_* variables and the file MEDIAGATE_CONFIG."""
    from mediagate_server.config import ConfigError, Configuration, load_settings
    from mediagate_server.errors import MediagateError
    from mediagate_server.main import run
    from mediagate_server.store.sqlite import DataFolderInUse

    try:
        run(Configuration(load_settings(warn=_warn)), print_error)
    except (ConfigError, DataFolderInUse, MediagateError, OSError, RuntimeError) as error:
        print_error(f"mediagate cannot serve: {_one_line(error)}")
        raise typer.Exit(1) from None


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


@configuration.command()
def check(
    file: Annotated[
        Path | None, typer.Argument(help="Default: the file of MEDIAGATE_CONFIG.")
    ] = None,
) -> None:
    """Validate the configuration; an error names the line."""
    from mediagate_server.catalog.live import build_catalog
    from mediagate_server.config import ConfigError, load_settings

    try:
        settings = load_settings(file, warn=_warn)
        settings.check_exposure()
        settings.check_public_url()
        build_catalog(settings)
        choice = settings.upstream_choice()
    except ConfigError as error:
        print_error(str(error))
        raise typer.Exit(1) from None
    typer.echo(f"The configuration can be used. Answers would come from: {choice.kind}.")


def _warn(line: str) -> None:
    print_error(f"warning: {line}")
