"""Metering interceptor: binds a summary to each rpc and sends its cost as a trailer.

It counts no money: a video settles long after its rpc, and only the ledger knows when.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from mediagate_server import rpc_context
from mediagate_server.api.interceptors.rpc_call import CallNext, RpcCall
from mediagate_server.rpc_context import CallSummary

COST_TRAILER: Final = "mediagate-cost-usd-nanos"
"""What the rpc's generation has cost, in nano-dollars. Missing where that is not known."""

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class MeteringInterceptor:
    """Binds a summary to each rpc: tenant, labels, generation and cost."""

    def __init__(self) -> None:
        self._has_labels: dict[type[Any], bool] = {}

    async def intercept(self, call: RpcCall, call_next: CallNext) -> bytes | None:
        """Bind the summary; write its cost however the call ends, if one was reported."""
        if call.method.public:
            return await call_next(call)
        summary = CallSummary(rpc_context.current_caller().tenant, self._labels_of(call.request))
        call.summary = summary
        rpc_context.bind_summary(summary)
        try:
            return await call_next(call)
        finally:
            if summary.cost_nanos is not None:
                call.add_trailer(COST_TRAILER, str(summary.cost_nanos))

    def _labels_of(self, request: Any) -> Mapping[str, str]:
        """The labels of a request's options, where it is a message that has some."""
        kind = type(request)
        has_labels = self._has_labels.get(kind)
        if has_labels is None:
            descriptor = getattr(kind, "DESCRIPTOR", None)
            options = descriptor.fields_by_name.get("options") if descriptor else None
            inner = options.message_type if options is not None else None
            has_labels = inner is not None and "labels" in inner.fields_by_name
            self._has_labels[kind] = has_labels
        if not has_labels or not request.HasField("options"):
            return _NONE
        # A map of protobuf's keeps the whole message, and a summary lives as long as the run.
        return dict(request.options.labels)
