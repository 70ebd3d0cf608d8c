"""gRPC servicer of VideoService."""

from mediagate.v1 import video_pb2, video_pb2_grpc
from mediagate_server.api.billable_call_handler import BillableCallHandler, RpcContext
from mediagate_server.catalog.request import Modality


class VideoService(video_pb2_grpc.VideoServiceServicer):
    """VideoService: video generation."""

    def __init__(self, calls: BillableCallHandler) -> None:
        self._calls = calls

    async def GenerateVideo(
        self, request: video_pb2.GenerateVideoRequest, context: RpcContext
    ) -> video_pb2.GenerateVideoResponse:
        """Generates a video; answers at once, or after `wait`."""
        call = await self._calls.start(
            request, method="GenerateVideo", modality=Modality.VIDEO, wait_by_default=False
        )
        del request  # It may be large, and is of no use any more.
        answer = await call.answer(context)
        return video_pb2.GenerateVideoResponse(**answer.fields())
