"""Entry point of the command `mediagate`. Without typer it says what to install."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from mediagate_cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        sys.exit("The command line is an extra: pip install 'mediagate[cli,server,sandbox]'")
    app()


if __name__ == "__main__":
    main()
