"""gRPC servicer of AudioService."""

from mediagate.v1 import audio_pb2, audio_pb2_grpc
from mediagate_server.api.billable_call_handler import BillableCallHandler, RpcContext
from mediagate_server.catalog.request import Modality


class AudioService(audio_pb2_grpc.AudioServiceServicer):
    """AudioService: music, sound effects and speech."""

    def __init__(self, calls: BillableCallHandler) -> None:
        self._calls = calls

    async def GenerateAudio(
        self, request: audio_pb2.GenerateAudioRequest, context: RpcContext
    ) -> audio_pb2.GenerateAudioResponse:
        """Generates audio; answers once it has ended, or after `wait`."""
        call = await self._calls.start(
            request, method="GenerateAudio", modality=Modality.AUDIO, wait_by_default=True
        )
        del request  # It may be large, and is of no use any more.
        answer = await call.answer(context)
        return audio_pb2.GenerateAudioResponse(**answer.fields())
