"""Opens a receipt for every rpc and hands it out at the end: cost as a trailer, the rest logged.

It counts no money: a video settles long after its rpc, and only the ledger knows when.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from mediagate_server.api.interceptors.rpc_call import CallNext, RpcCall
from mediagate_server.context import call_summary, caller
from mediagate_server.context.call_summary import CallSummary

COST_TRAILER: Final = "mediagate-cost-usd-nanos"
"""What the rpc's generation has cost, in nano-dollars. Missing where that is not known."""

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class MeteringInterceptor:
    """Who pays, under which labels, and what it came to."""

    def __init__(self) -> None:
        self._labelled: dict[type[Any], bool] = {}

    async def intercept(self, call: RpcCall, proceed: CallNext) -> bytes | None:
        """Bind the receipt; write its cost however the call ends, if one was reported."""
        if call.method.public:
            return await proceed(call)
        opened = CallSummary(caller.current_caller().tenant, self._labels_of(call.request))
        call.receipt = opened
        call_summary.bind_summary(opened)
        try:
            return await proceed(call)
        finally:
            if opened.cost_nanos is not None:
                call.add_trailer(COST_TRAILER, str(opened.cost_nanos))

    def _labels_of(self, request: Any) -> Mapping[str, str]:
        """The labels of a request's options, where it is a message that has some."""
        kind = type(request)
        labelled = self._labelled.get(kind)
        if labelled is None:
            descriptor = getattr(kind, "DESCRIPTOR", None)
            options = descriptor.fields_by_name.get("options") if descriptor else None
            inner = options.message_type if options is not None else None
            labelled = inner is not None and "labels" in inner.fields_by_name
            self._labelled[kind] = labelled
        if not labelled or not request.HasField("options"):
            return _NONE
        # A map of protobuf's keeps the whole message, and a receipt lives as long as the run.
        return dict(request.options.labels)
