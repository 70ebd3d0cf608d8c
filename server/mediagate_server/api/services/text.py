"""gRPC servicer of TextService."""

from mediagate.v1 import text_pb2, text_pb2_grpc
from mediagate_server.api import text_stream_writer
from mediagate_server.api.billable_call_handler import (
    BillableCallHandler,
    RpcContext,
    record_generation,
)
from mediagate_server.api.convert import responses
from mediagate_server.api.convert.responses import derive_finish_reason
from mediagate_server.catalog.request import Modality
from mediagate_server.store.records import Generation


class TextService(text_pb2_grpc.TextServiceServicer):
    """TextService: text generation, streamed or unary."""

    def __init__(self, calls: BillableCallHandler) -> None:
        self._calls = calls

    async def StreamText(  # type: ignore[override]  # gRPC takes one that writes, too
        self, request: text_pb2.StreamTextRequest, context: RpcContext
    ) -> None:
        """Generates a text and streams it as it grows."""
        attachment = await self._calls.attach(request, method="StreamText", modality=Modality.TEXT)
        async with attachment as attached:
            writer = text_stream_writer.StreamResponseWriter(
                context, text_pb2.StreamTextResponse, request.after_sequence
            )
            del request  # It may be large, and is of no use any more.
            record_generation(attached.record)
            await writer.write(started=text_stream_writer.started_event(attached))
            await attached.stream(writer)
            record_generation(attached.record)
            await writer.write(completed=_completed(attached.record))

    async def GenerateText(
        self, request: text_pb2.GenerateTextRequest, context: RpcContext
    ) -> text_pb2.GenerateTextResponse:
        """Generates a text; answers once it has ended, or after `wait`."""
        call = await self._calls.start(
            request, method="GenerateText", modality=Modality.TEXT, wait_by_default=True
        )
        del request  # It may be large, and is of no use any more.
        answer = await call.answer(context)
        return text_pb2.GenerateTextResponse(**answer.fields())


def _completed(record: Generation) -> text_pb2.TextCompleted:
    return text_pb2.TextCompleted(
        model=record.model,
        finish_reason=derive_finish_reason(record),
        usage=responses.encode_usage(record.usage),
        cost=responses.encode_cost(record.cost),
        safety=responses.encode_verdict(record.verdict),
    )
