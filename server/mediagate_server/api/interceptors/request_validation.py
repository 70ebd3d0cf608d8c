"""Request validation interceptor: refuses invalid requests before anything is stored or spent.

All violations are found at once and named by their paths. The rules are in `api.validation`.
"""

from collections.abc import Awaitable
from typing import Any, Final

from google.protobuf.message import Message

from mediagate_server import rpc_context
from mediagate_server.api.interceptors.rpc_call import CallNext, Implementation, RpcCall
from mediagate_server.api.validation.rules import field_rules
from mediagate_server.api.validation.validator import MessageValidator
from mediagate_server.errors import (
    DeadlineTooShort,
    InvalidRequest,
    NotImplementedYet,
    UnknownMethod,
)
from mediagate_server.network.egress_policy import EgressPolicy
from mediagate_server.runtime.fair_scheduler import FairScheduler

MIN_TIMEOUT: Final = 5
"""Seconds. No run can be held to less upstream."""

_RETRIED: Final = "grpc-previous-rpc-attempts"


class ValidationInterceptor:
    """Validates requests by field rules; refuses methods that are not implemented.

    `allow_http_loopback`: inputs may also be at plain http on this machine, which is where an
    embedded sandbox keeps what it made. `webhooks` is where callers may have webhooks sent to.
    """

    def __init__(
        self,
        *,
        allow_http_loopback: bool = False,
        webhooks: EgressPolicy = EgressPolicy(),  # noqa: B008 - it never changes
        scheduler: FairScheduler | None = None,
    ) -> None:
        self._scheduler: Final = scheduler or FairScheduler()
        self._validator: Final = MessageValidator(
            field_rules(allow_http_loopback=allow_http_loopback, webhooks=webhooks)
        )
        self._billable: dict[type[Any], bool] = {}

    def intercept(self, call: RpcCall, call_next: CallNext) -> Awaitable[bytes | None]:
        """Check the request, or each message of a request stream as it comes."""
        method = call.method
        if method.implementation is Implementation.UNKNOWN:
            raise UnknownMethod(method.path)
        if method.implementation is Implementation.UNIMPLEMENTED:
            raise NotImplementedYet(f"{method.service}.{method.name}")
        if not method.public:
            if method.request_streaming:
                call.check = self.check
            else:
                self._check_in_turn(call)
                self._refuse_blind_retry(call)
        return call_next(call)

    def _check_in_turn(self, call: RpcCall) -> None:
        """What a request takes of the event loop to be checked is charged to its tenant."""
        scheduler, started = self._scheduler, self._scheduler.clock()
        try:
            self.check(call.request)
        finally:
            scheduler.record_usage(rpc_context.current_tenant(), scheduler.clock() - started)

    def check(self, request: object) -> None:
        """Validate one request message. Raises InvalidRequest, or what else its violations are."""
        if not isinstance(request, Message):
            return
        if (error := self._validator.validate(request).error()) is not None:
            raise error
        if self._is_billable(request):
            _refuse_short_timeout(request)

    def _refuse_blind_retry(self, call: RpcCall) -> None:
        """Refuse a billable call that gRPC itself sent again without a request_id: it may pay
        twice.
        """
        request = call.request
        if not self._is_billable(request) or request.request_id:
            return
        if call.metadata(_RETRIED) is not None:
            raise InvalidRequest.of("request_id", "must be set on a call that is sent again")

    def _is_billable(self, request: object) -> bool:
        """Whether it is a request that can spend: those have a request_id and options."""
        kind = type(request)
        billable = self._billable.get(kind)
        if billable is None:
            names = request.DESCRIPTOR.fields_by_name if isinstance(request, Message) else {}
            billable = self._billable[kind] = "request_id" in names and "options" in names
        return billable


def _refuse_short_timeout(request: Any) -> None:
    if not request.options.HasField("timeout"):
        return
    timeout = request.options.timeout
    if timeout.seconds < MIN_TIMEOUT:
        raise DeadlineTooShort(
            f"timeout is under {MIN_TIMEOUT} s",
            metadata={
                "field": "options.timeout",
                "timeout_seconds": f"{timeout.seconds}.{timeout.nanos:09}",
                "minimum_seconds": str(MIN_TIMEOUT),
            },
        )
