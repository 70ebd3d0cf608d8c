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
        answer = await self._calls.answer(
            request,
            context,
            method="GenerateImage",
            modality=Modality.IMAGE,
            wait_by_default=True,
        )
        return image_pb2.GenerateImageResponse(**answer.fields())
