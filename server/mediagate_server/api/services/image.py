"""gRPC servicer of ImageService."""

from mediagate.v1 import image_pb2, image_pb2_grpc
from mediagate_server.api.billable_call_handler import BillableCallHandler, RpcContext
from mediagate_server.catalog.request import Modality


class ImageService(image_pb2_grpc.ImageServiceServicer):
    """ImageService: image generation."""

    def __init__(self, calls: BillableCallHandler) -> None:
        self._calls = calls

    async def GenerateImage(
        self, request: image_pb2.GenerateImageRequest, context: RpcContext
    ) -> image_pb2.GenerateImageResponse:
        """Generates images; answers once it has ended, or after `wait`."""
        call = await self._calls.start(
            request, method="GenerateImage", modality=Modality.IMAGE, wait_by_default=True
        )
        del request  # It may be large, and is of no use any more.
        answer = await call.answer(context)
        return image_pb2.GenerateImageResponse(**answer.fields())
