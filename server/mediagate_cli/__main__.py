"""Entry point of the command `mediagate`. Without typer it says what to install."""

import os
import sys

FAILED = 3
INTERRUPTED = 130


def main() -> None:
    """Run the command line; whatever happens ends in an exit code and at most a line of error."""
    try:
        code = _run()
    except KeyboardInterrupt:
        print("mediagate: interrupted", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code)


def _run() -> int:
    from mediagate_cli.standard_streams import prepare_standard_streams

    prepare_standard_streams()
    # gRPC writes lines of its own to stderr, where logs are JSON and an error is one line. It reads
    # the variable when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from mediagate_cli.app import app
        from mediagate_cli.exit_codes import exit_code_of_exception, flush_streams
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        print(
            "The command line is an extra: pip install 'mediagate[cli,server,sandbox]'",
            file=sys.stderr,
        )
        return 1
    try:
        code = app(standalone_mode=False) or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception as error:  # noqa: BLE001 - the last resort: a line, not a traceback
        code = exit_code_of_exception(error)
    return flush_streams(code)


if __name__ == "__main__":
    main()
