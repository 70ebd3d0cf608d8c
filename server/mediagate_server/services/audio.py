"""AudioService: music, sound effects and speech."""

from mediagate.v1 import audio_pb2, audio_pb2_grpc
from mediagate_server.catalog.request import Modality
from mediagate_server.services.paid import Context, PaidCalls


class AudioService(audio_pb2_grpc.AudioServiceServicer):
    """See audio.proto."""

    def __init__(self, calls: PaidCalls) -> None:
        self._calls = calls

    async def GenerateAudio(
        self, request: audio_pb2.GenerateAudioRequest, context: Context
    ) -> audio_pb2.GenerateAudioResponse:
        """Makes it and answers once it is done, or after `wait`."""
        begun = await self._calls.begin(
            request, method="GenerateAudio", modality=Modality.AUDIO, wait_by_default=True
        )
        del request  # It may be large, and is of no use any more.
        answer = await begun.answer(context)
        return audio_pb2.GenerateAudioResponse(**answer.fields())
