"""Exit codes and error output of commands.

0         it is done
1         refused: nothing was made and nothing was paid
2         the command line itself is wrong
3         failed: it was accepted and did not come to a good end, or its result could not be
          written; it may have cost money
4         not at its end yet; it goes on
128 + n   ended by signal n: 129 SIGHUP, 130 Ctrl-C, 143 SIGTERM; 141: whoever read stdout has left
"""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import typer

from mediagate_cli.standard_streams import visible_controls

if TYPE_CHECKING:
    from mediagate.v1.generation_pb2 import Generation
    from mediagate_client import MediagateError

REFUSED: Final = 1
USAGE: Final = 2
FAILED: Final = 3
UNFINISHED: Final = 4
INTERRUPTED: Final = 130
READER_LEFT: Final = 141

_UsageError: Final = typer.BadParameter.__mro__[1]
"""A wrong command line. Typer does not export it, and by its version has click or a copy of it."""
API_KEY_HINT: Final = "look at MEDIAGATE_API_KEY, or --api-key"
_HINTS: Final = {
    "KEY_MISSING": API_KEY_HINT,
    "KEY_INVALID": API_KEY_HINT,
    "SCOPE_MISSING": f"another key may: {API_KEY_HINT}",
    "UPSTREAM_ACCOUNT": "look at REPLICATE_API_TOKEN of the server, and at the account's credit",
    "MAX_COST_EXCEEDED": "a higher --max-cost allows it",
}
"""What to look at, by an error's reason."""


def print_error(line: str) -> None:
    """Print a line to stderr: stdout is for a command's result."""
    try:
        print(visible_controls(line) if sys.stderr.isatty() else line, file=sys.stderr, flush=True)
    except OSError:
        return  # Closed or full: there is no other place to say it, and the work goes on.


@contextmanager
def exit_on_error(target: str) -> Iterator[None]:
    """Context manager: an error becomes one line and an exit code; its notes become lines too."""
    from mediagate_client import MediagateError

    try:
        yield
        sys.stdout.flush()
    except MediagateError as error:
        print_error(f"mediagate: {error_message(error, target)}")
        _print_notes(error)
        raise typer.Exit(exit_code_of(error)) from None
    except OSError as error:
        raise typer.Exit(exit_code_of_os_error(error)) from None


def exit_code_of_os_error(error: OSError) -> int:
    """Print an error of the system and return its exit code."""
    if isinstance(error, BrokenPipeError):
        # Whoever read stdout has enough: nothing is wrong.
        _print_notes(error)
        return READER_LEFT
    named = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    print_error(f"mediagate: {named or 'standard output'}: {error.strerror or error}")
    _print_notes(error)
    return FAILED


def exit_code_of_exception(error: Exception) -> int:
    """Print an error that ended the command as one line, and return its exit code.

    An unexpected one has a traceback in Python's dev mode.
    """
    if isinstance(error, _UsageError):
        return _print_usage_error(error)
    if sys.flags.dev_mode:
        traceback.print_exception(error)
    if isinstance(error, OSError):
        return exit_code_of_os_error(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        print_error(
            f"mediagate: {error.name} is not installed: pip install 'mediagate[cli,server,sandbox]'"
        )
        return REFUSED
    if isinstance(error, UnicodeEncodeError):
        print_error("mediagate: an argument is not a text in UTF-8")
        return USAGE
    words = " ".join(str(error).split())
    print_error(f"mediagate: a bug: {type(error).__name__}: {words} (python -X dev shows where)")
    _print_notes(error)
    return FAILED


def _print_usage_error(error: Any) -> int:
    """Print what is wrong with the command line, and return the exit code."""
    words = " ".join(error.format_message().split())
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    elif error.ctx is None:
        print_error(f"mediagate: {words}")
    else:
        print_error(f"mediagate: {words} (see `{error.ctx.command_path} --help`)")
    return USAGE


def flush_streams(code: int) -> int:
    """Write what is left in the buffers; return `code`, or that of an error of stdout."""
    try:
        sys.stdout.flush()
    except OSError as error:
        code = code or exit_code_of_os_error(error)
    except KeyboardInterrupt:
        code = code or INTERRUPTED
    try:
        sys.stderr.flush()
    except (OSError, KeyboardInterrupt):
        # Python would try again at its end, and make the exit code 120.
        sys.stderr = None
    return code


def _print_notes(error: BaseException) -> None:
    for note in getattr(error, "__notes__", ()):
        print_error(f"  {note}")


def exit_code_of(error: "MediagateError") -> int:
    """Return the exit code of an error: 3 where a run may have begun, else 1.

    The same failure has the same code as a gRPC status and as a failed generation.
    """
    from mediagate_client import errors

    failures = (
        errors.DataLost,
        errors.DeadlineExceeded,
        errors.GenerationCancelled,
        errors.InternalError,
        errors.RunFailed,
        errors.StreamLost,
    )
    if isinstance(error, failures) or error.reason == "SUBMIT_UNCONFIRMED":
        return FAILED
    return FAILED if error.generation is not None and _may_have_run(error.generation) else REFUSED


def _may_have_run(generation: "Generation") -> bool:
    """Whether upstream accepted any attempt, or may have."""
    from mediagate.v1.generation_pb2 import Attempt

    never_ran = (Attempt.STATE_QUEUED, Attempt.STATE_REFUSED, Attempt.STATE_ABSENT)
    may_have_run = (attempt.state not in never_ran for attempt in generation.attempts)
    return any(may_have_run) or not generation.attempts


def unreachable_server_error(target: str) -> str:
    """Return the error message for a server that does not answer."""
    return (
        f"no server answers at {target}: start one with `mediagate serve`, "
        "or name another with --target"
    )


def error_message(error: "MediagateError", target: str) -> str:
    """Format an error as one line: message, reason, fields, retry-after, cost, what to look at."""
    from mediagate_client import Unavailable

    if isinstance(error, Unavailable) and not error.reason:
        return unreachable_server_error(target)
    facts = [error.reason or error.code.name]
    facts += [violation.field for violation in error.violations if violation.field]
    if error.retry_after is not None:
        facts.append(f"try again in {error.retry_after:g} s")
    if error.generation is not None:
        from mediagate_cli.format import format_cost

        facts.append(f"cost {format_cost(error.generation.cost)}")
    facts += _amounts(error)
    words = " ".join(error.message.split()) or "it did not succeed"
    words = words.replace("max_cost_usd_nanos", "--max-cost")
    hint = _HINTS.get(error.reason)
    return f"{words} ({', '.join(facts)}){f'; {hint}' if hint else ''}"


def _amounts(error: "MediagateError") -> list[str]:
    """Return the amounts that an error is about, in dollars."""
    from mediagate_cli.format import format_usd

    suffix = "_usd_nanos"
    return [
        f"{name.removesuffix(suffix).replace('_', ' ')} {format_usd(int(value))}"
        for name, value in sorted(error.metadata.items())
        if name.endswith(suffix) and value.isdecimal()
    ]
