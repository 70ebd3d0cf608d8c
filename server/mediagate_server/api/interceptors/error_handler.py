"""Error interceptor: turns any exception into one gRPC status; no other text reaches a caller.

It knows the table of `status.py`, not what any failure means.
"""

import asyncio
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, NoReturn

import grpc
import structlog
from grpc_status import rpc_status

from mediagate_server.api.interceptors.rpc_call import CallNext, RpcCall
from mediagate_server.api.status import code_for_failure, to_status
from mediagate_server.errors import Failure, InternalError, MediagateError, ServerDraining

_log = structlog.get_logger("mediagate.errors")
_DETAILS: Final[str] = rpc_status.GRPC_DETAILS_METADATA_KEY
_PUSHBACK: Final = "grpc-retry-pushback-ms"
_MAX_FRAMES: Final = 30


class ErrorInterceptor:
    """Ends a failed rpc with a status and its typed details."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._draining = False

    def end_all(self) -> None:
        """End every rpc that is open, and whichever still comes, with DRAINING.

        gRPC would cancel them, and their callers would take that for somebody's wish.
        """
        self._draining = True
        for task in tuple(self._tasks):
            task.cancel()

    async def intercept(self, call: RpcCall, call_next: CallNext) -> bytes | None:
        """Pass success and cancellation on; abort the rpc on anything else."""
        task = asyncio.current_task()
        if task is None or self._draining:
            return await self._abort(call, _draining(call))
        self._tasks.add(task)
        try:
            return await call_next(call)
        except (grpc.aio.AbortError, grpc.aio.InternalError):
            # Already answered, or nobody left to answer.
            raise
        except asyncio.CancelledError as stray:
            if task.cancelling() > 1 or (task.cancelling() and not self._draining):
                raise
            # A task that the handler waited for was cancelled, not the call. Passed on, gRPC
            # would leave the caller without any answer.
            failure = _draining(call) if task.cancelling() else _uncaught(call, stray)
            task.uncancel()
            _clear_traceback(stray)
        except MediagateError as error:
            failure = error.failure
            _clear_traceback(error)
        except Exception as error:  # noqa: BLE001 - total on purpose: nothing else may answer
            failure = _group_failure(error) or _uncaught(call, error)
            _clear_traceback(error)
        finally:
            self._tasks.discard(task)
        # Not within `except`: what is raised there refers to what was caught.
        return await self._abort(call, failure)

    async def _abort(self, call: RpcCall, failure: Failure) -> NoReturn:
        """End the call with the failure's status. Always raises."""
        call.reason = failure.reason.value
        status = to_status(failure)
        trailers = [*call.context.trailing_metadata(), (_DETAILS, status.SerializeToString())]
        if failure.retry_after is not None:
            trailers.append((_PUSHBACK, str(round(max(failure.retry_after, 0.0) * 1_000))))
        await call.context.abort(code_for_failure(failure), status.message, tuple(trailers))
        raise AssertionError("abort always raises")


def _clear_traceback(error: BaseException) -> None:
    """Nobody looks at it any more, and many a frame of its traceback refers back to it."""
    error.__traceback__ = error.__context__ = error.__cause__ = None


def _draining(call: RpcCall) -> Failure:
    summary = call.summary
    if summary is None:
        return ServerDraining.of().failure
    return ServerDraining.of(
        request_id=summary.request_id, generation_id=summary.generation_id
    ).failure


def _group_failure(error: Exception) -> Failure | None:
    """The first failure of a group that holds nothing else, as a TaskGroup raises it."""
    if not isinstance(error, ExceptionGroup):
        return None
    expected, rest = error.split(MediagateError)
    if expected is None or rest is not None:
        return None
    first = next(_leaves(expected))
    return first.failure if isinstance(first, MediagateError) else None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _uncaught(call: RpcCall, error: BaseException) -> Failure:
    """Log a bug by its type and place alone: its text may hold what a caller sent."""
    _log.error(
        "uncaught_exception",
        method=call.method.path,
        error=[_type_name(leaf) for leaf in _leaves(error)],
        cause=_type_name(error.__cause__) if error.__cause__ else None,
        frames=_frames(error.__traceback__),
    )
    return InternalError().failure


def _type_name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


def _frames(traceback: TracebackType | None) -> list[str]:
    """`module:line function` of the innermost frames, outermost first."""
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        module = traceback.tb_frame.f_globals.get("__name__", "?")
        frames.append(f"{module}:{traceback.tb_lineno} {code.co_qualname}")
        traceback = traceback.tb_next
    return frames[-_MAX_FRAMES:]
