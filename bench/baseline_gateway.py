"""Baseline gateway: a minimal gRPC proxy to Replicate.

Started by `python -m bench.baseline_gateway UPSTREAM_URL`.
The `replicate` SDK as it comes, asyncio as it comes, one message for each token, and nothing else:
no store, no limits, no costs, no metrics, no logs.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
from replicate.client import Client

from bench.ready_line import print_ready_line
from bench.upstream_responses import MODEL
from mediagate.v1 import generation_pb2, text_pb2, text_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
_TOKEN = "bench"  # noqa: S105 - the bench's upstream takes any


class BaselineGateway(text_pb2_grpc.TextServiceServicer):
    """TextService straight over the SDK."""

    def __init__(self, upstream_url: str) -> None:
        self._client = Client(api_token=_TOKEN, base_url=upstream_url)

    async def StreamText(  # noqa: N802 - named as in the contract
        self, request: text_pb2.StreamTextRequest, context: Context
    ) -> AsyncIterator[text_pb2.StreamTextResponse]:
        """Stream the model's output, token by token."""
        sequence = 0
        async for event in await _stream(self._client, request):
            if event.event.value == "output":
                sequence += len(event.data)
                yield text_pb2.StreamTextResponse(
                    sequence=sequence, delta=text_pb2.TextDelta(text=event.data)
                )

    async def GenerateText(  # noqa: N802 - named as in the contract
        self, request: text_pb2.GenerateTextRequest, context: Context
    ) -> text_pb2.GenerateTextResponse:
        """Run the model and wait for its end."""
        prediction = await self._client.models.predictions.async_create(
            model=MODEL, input=_input_of(request)
        )
        await prediction.async_wait()
        text = "".join(prediction.output or ())
        return text_pb2.GenerateTextResponse(
            generation=generation_pb2.Generation(
                id=prediction.id, model=MODEL, text=generation_pb2.TextOutput(text=text)
            )
        )


async def _stream(client: Client, request: text_pb2.StreamTextRequest) -> Any:
    return await client.async_stream(MODEL, input=_input_of(request))


def _input_of(request: text_pb2.StreamTextRequest | text_pb2.GenerateTextRequest) -> dict[str, Any]:
    return {"prompt": request.prompt, "max_tokens": request.max_output_tokens}


async def serve(upstream_url: str) -> None:
    """Serve on a free port until killed."""
    server = grpc.aio.server()
    text_pb2_grpc.add_TextServiceServicer_to_server(BaselineGateway(upstream_url), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print_ready_line(port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
