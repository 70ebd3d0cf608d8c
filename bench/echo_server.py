"""Echo server: gRPC for Python with nothing behind it, on uvloop. python -m bench.echo_server.

It answers both rpcs of TextService from memory: as many words as it was asked for, one message
each, in the messages of the contract.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop

from bench.ready_line import print_ready_line
from bench.upstream_responses import MODEL, ResponseScript
from mediagate.v1 import generation_pb2, text_pb2, text_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class EchoServer(text_pb2_grpc.TextServiceServicer):
    """TextService without a server behind it."""

    async def StreamText(  # noqa: N802 - named as in the contract
        self, request: text_pb2.StreamTextRequest, context: Context
    ) -> AsyncIterator[text_pb2.StreamTextResponse]:
        """One message for each word; max_output_tokens says how many."""
        for sequence, word in enumerate(ResponseScript(tokens=request.max_output_tokens).words()):
            yield text_pb2.StreamTextResponse(
                sequence=sequence, delta=text_pb2.TextDelta(text=word)
            )

    async def GenerateText(  # noqa: N802 - named as in the contract
        self, request: text_pb2.GenerateTextRequest, context: Context
    ) -> text_pb2.GenerateTextResponse:
        """All words at once."""
        text = "".join(ResponseScript(tokens=request.max_output_tokens).words())
        return text_pb2.GenerateTextResponse(
            generation=generation_pb2.Generation(
                id="gen_0", model=MODEL, text=generation_pb2.TextOutput(text=text)
            )
        )


async def serve() -> None:
    """Serve on a free port until killed."""
    server = grpc.aio.server()
    text_pb2_grpc.add_TextServiceServicer_to_server(EchoServer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print_ready_line(port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())
