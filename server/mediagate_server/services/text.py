"""TextService: texts, streamed or whole."""

from collections.abc import AsyncIterator

from mediagate.v1 import generation_pb2, text_pb2, text_pb2_grpc
from mediagate_server.catalog.request import Modality
from mediagate_server.generations.text_buffer import Chunk
from mediagate_server.services import shown, streaming
from mediagate_server.services.paid import Context, PaidCalls, report
from mediagate_server.store.records import Generation


class TextService(text_pb2_grpc.TextServiceServicer):
    """See text.proto."""

    def __init__(self, calls: PaidCalls) -> None:
        self._calls = calls

    async def StreamText(
        self, request: text_pb2.StreamTextRequest, context: Context
    ) -> AsyncIterator[text_pb2.StreamTextResponse]:
        """Streams a text while it is made."""
        attachment = await self._calls.attach(request, method="StreamText", modality=Modality.TEXT)
        async with attachment as attached:
            sequence = request.after_sequence
            report(attached.record)
            yield text_pb2.StreamTextResponse(
                sequence=sequence, started=streaming.started(attached)
            )
            async for event in attached.events(sequence):
                if isinstance(event, Chunk):  # For each token: nothing is put together twice.
                    sequence = event.sequence
                    yield text_pb2.StreamTextResponse(
                        sequence=sequence, delta=text_pb2.TextDelta(text=event.text)
                    )
                    continue
                yield text_pb2.StreamTextResponse(
                    sequence=sequence, **streaming.event_fields(event)
                )
            report(attached.record)
            yield _completed(attached.record, sequence)

    async def GenerateText(
        self, request: text_pb2.GenerateTextRequest, context: Context
    ) -> text_pb2.GenerateTextResponse:
        """Makes a text and answers once it is whole."""
        answer = await self._calls.answer(
            request, context, method="GenerateText", modality=Modality.TEXT, wait_by_default=True
        )
        return text_pb2.GenerateTextResponse(**answer.fields())


def _completed(record: Generation, sequence: int) -> text_pb2.StreamTextResponse:
    return text_pb2.StreamTextResponse(
        sequence=sequence,
        completed=text_pb2.TextCompleted(
            model=record.model,
            finish_reason=generation_pb2.FINISH_REASON_UNSPECIFIED,
            usage=shown.usage(record.usage),
            cost=shown.cost(record.cost),
        ),
    )
