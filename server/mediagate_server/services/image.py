"""ImageService: still pictures."""

from mediagate.v1 import image_pb2, image_pb2_grpc
from mediagate_server.catalog.request import Modality
from mediagate_server.services.paid import Context, PaidCalls


class ImageService(image_pb2_grpc.ImageServiceServicer):
    """See image.proto."""

    def __init__(self, calls: PaidCalls) -> None:
        self._calls = calls

    async def GenerateImage(
        self, request: image_pb2.GenerateImageRequest, context: Context
    ) -> image_pb2.GenerateImageResponse:
        """Makes it and answers once it is done, or after `wait`."""
        begun = await self._calls.begin(
            request, method="GenerateImage", modality=Modality.IMAGE, wait_by_default=True
        )
        del request  # It may be large, and is of no use any more.
        answer = await begun.answer(context)
        return image_pb2.GenerateImageResponse(**answer.fields())
