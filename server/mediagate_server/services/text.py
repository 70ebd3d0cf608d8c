"""TextService: texts, streamed or whole."""

from mediagate.v1 import text_pb2, text_pb2_grpc
from mediagate_server.catalog.request import Modality
from mediagate_server.services import shown, streaming
from mediagate_server.services.finish_reasons import finish_reason_of
from mediagate_server.services.paid import Context, PaidCalls, report
from mediagate_server.store.records import Generation


class TextService(text_pb2_grpc.TextServiceServicer):
    """See text.proto."""

    def __init__(self, calls: PaidCalls) -> None:
        self._calls = calls

    async def StreamText(  # type: ignore[override]  # gRPC takes one that writes, too
        self, request: text_pb2.StreamTextRequest, context: Context
    ) -> None:
        """Streams a text while it is made."""
        attachment = await self._calls.attach(request, method="StreamText", modality=Modality.TEXT)
        async with attachment as attached:
            telling = streaming.Telling(
                context, text_pb2.StreamTextResponse, request.after_sequence
            )
            del request  # It may be large, and is of no use any more.
            report(attached.record)
            await telling.write(started=streaming.started(attached))
            await attached.tell(telling)
            report(attached.record)
            await telling.write(completed=_completed(attached.record))

    async def GenerateText(
        self, request: text_pb2.GenerateTextRequest, context: Context
    ) -> text_pb2.GenerateTextResponse:
        """Makes a text and answers once it is whole."""
        begun = await self._calls.begin(
            request, method="GenerateText", modality=Modality.TEXT, wait_by_default=True
        )
        del request  # It may be large, and is of no use any more.
        answer = await begun.answer(context)
        return text_pb2.GenerateTextResponse(**answer.fields())


def _completed(record: Generation) -> text_pb2.TextCompleted:
    return text_pb2.TextCompleted(
        model=record.model,
        finish_reason=finish_reason_of(record),
        usage=shown.usage(record.usage),
        cost=shown.cost(record.cost),
        safety=shown.verdict(record.verdict),
    )
