"""Exit codes and error output of commands.

0    it is done
1    refused: nothing was made and nothing was paid
2    the command line itself is wrong
3    failed: it was accepted and then did not come to a good end; it may have cost money
130  interrupted by Ctrl-C
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from mediagate.v1.generation_pb2 import Generation
    from mediagate_client import MediagateError

REFUSED: Final = 1
USAGE: Final = 2
FAILED: Final = 3
INTERRUPTED: Final = 130


def print_error(line: str) -> None:
    """Print a line to stderr: stdout is for a command's result."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def exit_on_error(target: str) -> Iterator[None]:
    """Context manager: an error becomes one line and an exit code, Ctrl-C 130."""
    from mediagate_client import MediagateError

    try:
        yield
    except MediagateError as error:
        print_error(f"mediagate: {error_message(error, target)}")
        raise typer.Exit(exit_code_of(error)) from None
    except BrokenPipeError:
        # Whoever read our output has enough. Nothing more can be printed, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(REFUSED) from None
    except OSError as error:
        print_error(f"mediagate: {error.filename or 'the system'}: {error.strerror or error}")
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        print_error("mediagate: interrupted")
        raise typer.Exit(INTERRUPTED) from None


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
    """Format an error as one line: message, reason, fields, retry-after, cost."""
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
    words = " ".join(error.message.split()) or "it did not succeed"
    return f"{words} ({', '.join(facts)})"
