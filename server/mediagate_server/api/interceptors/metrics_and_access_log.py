"""RPC metrics and access log. Outermost, so that it sees what every other interceptor did.

The access line holds names and numbers: never a word of a request or reply.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import grpc
import structlog
from grpc import StatusCode

from mediagate_server.api.interceptors.rpc_call import CallNext, Implementation, RpcCall, RpcMethod
from mediagate_server.observability import metrics

_OTHER: Final = "other"
_DEADLINE_SLACK: Final = 0.1
"""A caller gives up at its own deadline, by its own clock: a cancel this close (s) is that one."""

_CODES: Final = {code.value[0]: code for code in StatusCode}


class _MethodMetrics:
    """The metric children of one method, looked up once."""

    __slots__ = ("_handled", "_labels", "received", "seconds", "sent", "started")

    def __init__(self, labels: tuple[str, str, str]) -> None:
        self._labels = labels
        self.started = metrics.rpc_started.labels(*labels)
        self.received = metrics.rpc_received.labels(*labels)
        self.sent = metrics.rpc_sent.labels(*labels)
        self.seconds = metrics.rpc_seconds.labels(*labels)
        self._handled = {
            code: metrics.rpc_handled.labels(*labels, code.name)
            for code in (StatusCode.OK, StatusCode.CANCELLED)
        }

    def count(self, call: RpcCall, code: StatusCode, seconds: float) -> None:
        """Count one finished rpc."""
        handled = self._handled.get(code)
        if handled is None:
            handled = self._handled[code] = metrics.rpc_handled.labels(*self._labels, code.name)
        handled.inc()
        if call.received:
            self.received.inc(call.received)
        if call.sent:
            self.sent.inc(call.sent)
        self.seconds.observe(seconds)


class RpcMetricsInterceptor:
    """Counts, times and logs every rpc, and knows how many are being served."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._series: dict[str, _MethodMetrics] = {}
        self._unknown = _MethodMetrics((_OTHER, _OTHER, _OTHER))
        self._idle = asyncio.Event()
        self._idle.set()
        self._access = _AccessLog()
        self.in_flight = 0
        """Rpcs being served now; health and reflection apart, whose watches have no end."""

    async def wait_until_idle(self) -> None:
        """Wait until no rpc is being served, every `finally` of their handlers done.

        Stopping a gRPC server does not wait for those.
        """
        await self._idle.wait()

    async def intercept(self, call: RpcCall, call_next: CallNext) -> bytes | None:
        """Count the rpc in, and out again with its code, however it ends."""
        series = self._method_metrics(call.method)
        series.started.inc()
        self._enter(call.method)
        start = self._clock()
        code = StatusCode.INTERNAL
        try:
            reply = await call_next(call)
            code = _set_code(call) or StatusCode.OK
            return reply
        except (asyncio.CancelledError, grpc.aio.InternalError):
            # gRPC's InternalError: a read or write failed because the call is gone.
            code = _cancellation_code(call)
            raise
        except grpc.aio.AbortError:
            code = _set_code(call) or StatusCode.INTERNAL
            raise
        finally:
            seconds = self._clock() - start
            self._leave(call.method)
            series.count(call, code, seconds)
            self._access.write(call, code, seconds)

    def _method_metrics(self, method: RpcMethod) -> _MethodMetrics:
        if method.implementation is Implementation.UNKNOWN:
            return self._unknown
        series = self._series.get(method.path)
        if series is None:
            series = _MethodMetrics((method.kind, method.service, method.name))
            self._series[method.path] = series
        return series

    def _enter(self, method: RpcMethod) -> None:
        if not method.public:
            self.in_flight += 1
            self._idle.clear()

    def _leave(self, method: RpcMethod) -> None:
        if not method.public:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()


def _set_code(call: RpcCall) -> StatusCode | None:
    """The code that an abort or the handler has set."""
    code: StatusCode | int | None = call.context.code()
    return _CODES.get(code) if isinstance(code, int) else code


def _cancellation_code(call: RpcCall) -> StatusCode:
    """Works out a code for a call that was cancelled: gRPC gives none."""
    remaining = _seconds_left(call)
    if remaining is not None and remaining < _DEADLINE_SLACK:
        return StatusCode.DEADLINE_EXCEEDED
    return StatusCode.CANCELLED


def _seconds_left(call: RpcCall) -> float | None:
    """Until the call's deadline; None where it has none, which gRPC's own types do not say."""
    return call.context.time_remaining()


class _AccessLog:
    """One line for each rpc, by a logger that is bound once for as long as logging stays as it is.

    structlog binds anew at each line otherwise, which takes longer than the line.
    """

    def __init__(self) -> None:
        self._bound: Any = None
        self._kind: object = None

    def write(self, call: RpcCall, code: StatusCode, seconds: float) -> None:
        """Write the line of a finished rpc."""
        method = call.method
        fields: dict[str, object] = {
            "method": _OTHER if method.implementation is Implementation.UNKNOWN else method.path,
            "code": code.name,
            "seconds": round(seconds, 6),
        }
        if call.reason:
            fields["reason"] = call.reason
        if call.caller is not None:
            fields["tenant"] = call.caller.tenant
        if (summary := call.summary) is not None:
            if summary.generation_id:
                fields["generation"] = summary.generation_id
            if summary.model:
                fields["model"] = summary.model
            if summary.cost_nanos is not None:
                fields["cost_usd_nanos"] = summary.cost_nanos
        if method.public:
            self._logger().debug("rpc", **fields)
        else:
            self._logger().info("rpc", **fields)

    def _logger(self) -> Any:
        kind = structlog.get_config()["wrapper_class"]
        if kind is not self._kind:
            self._kind, self._bound = kind, structlog.get_logger("mediagate.rpc").bind()
        return self._bound
