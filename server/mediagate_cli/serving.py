"""`serve`, `sandbox` and `config`: the commands that run something or check how it would run."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from mediagate_cli.exits import say

configuration = typer.Typer(no_args_is_help=True, help="What is configured.")


def serve() -> None:
    """Serve the gate. Settings come from MEDIAGATE_* variables and the file MEDIAGATE_CONFIG."""
    from mediagate_server.app import run
    from mediagate_server.config import ConfigError, Configuration, load_settings
    from mediagate_server.store.sqlite import DataFolderInUse

    try:
        run(Configuration(load_settings()), say)
    except (ConfigError, DataFolderInUse, OSError, RuntimeError) as error:
        say(f"mediagate cannot serve: {error}")
        raise typer.Exit(1) from None


def sandbox(
    host: Annotated[str, typer.Option(help="Where to listen; loopback.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8787,
    seed: Annotated[int, typer.Option(help="The same seed makes the same outputs.")] = 1,
    time_scale: Annotated[
        float, typer.Option(help="How long runs take: 1 is as long as on Replicate.")
    ] = 0.02,
    token: Annotated[
        str, typer.Option(help="The only token taken. Empty: any, but there must be one.")
    ] = "",
) -> None:
    """Serve a Replicate-compatible API that makes real media and costs nothing.

    Point any Replicate client at it: REPLICATE_API_TOKEN=any, base URL http://HOST:PORT.
    """
    from mediagate_sandbox.server import Sandbox, SandboxSettings, run

    try:
        settings = SandboxSettings(
            host=host, port=port, seed=seed, time_scale=time_scale, token=token or None
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None

    def started(running: Sandbox) -> None:
        say(f"The sandbox answers at {running.url} (seed {running.settings.seed}).")

    try:
        asyncio.run(run(settings, started=started))
    except OSError as error:
        say(f"the sandbox cannot serve: {error}")
        raise typer.Exit(1) from None


@configuration.command()
def check(
    file: Annotated[
        Path | None, typer.Argument(help="Default: the file of MEDIAGATE_CONFIG.")
    ] = None,
) -> None:
    """Say whether the configuration can be used; name the line where it cannot."""
    from mediagate_server.config import ConfigError, load_settings

    try:
        settings = load_settings(file)
        settings.check_exposure()
        choice = settings.upstream_choice()
    except ConfigError as error:
        say(str(error))
        raise typer.Exit(1) from None
    typer.echo(f"The configuration can be used. Answers would come from: {choice.kind}.")
