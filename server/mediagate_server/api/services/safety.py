"""gRPC servicer of SafetyService."""

from mediagate.v1 import safety_pb2, safety_pb2_grpc
from mediagate_server.api.billable_call_handler import BillableCallHandler, RpcContext
from mediagate_server.api.convert import responses
from mediagate_server.catalog.request import Modality


class SafetyService(safety_pb2_grpc.SafetyServiceServicer):
    """SafetyService: content safety checks."""

    def __init__(self, calls: BillableCallHandler) -> None:
        self._calls = calls

    async def CheckSafety(
        self, request: safety_pb2.CheckSafetyRequest, context: RpcContext
    ) -> safety_pb2.CheckSafetyResponse:
        """Checks content; answers once there is a verdict, or after `wait`."""
        call = await self._calls.start(
            request, method="CheckSafety", modality=Modality.SAFETY, wait_by_default=True
        )
        del request  # It may be large, and is of no use any more.
        answer = await call.answer(context)
        verdict = answer.record.verdict if answer.record else None
        return safety_pb2.CheckSafetyResponse(
            **answer.fields(), verdict=responses.encode_verdict(verdict)
        )
