"""gRPC servicer of GenerationService."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from mediagate.v1 import generation_pb2, generations_pb2, generations_pb2_grpc, modality_pb2
from mediagate_server import rpc_context
from mediagate_server.api import page_tokens
from mediagate_server.api.billable_call_handler import (
    RpcContext,
    effective_wait,
    record_generation,
    requested_wait,
)
from mediagate_server.api.convert import requests, responses
from mediagate_server.api.page_tokens import PageTokens
from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.media.signed_links import MediaLinkSigner
from mediagate_server.store.records import Generation, GenerationFilter, ListPosition, State

_STATES = {number: state for state, number in responses.STATES.items()}


_MAX_PAGE_BYTES: Final = 3 * 1024 * 1024
"""Bytes of a page of generations, unless one alone has more: clients take 4 MiB."""
_READ_AT_ONCE: Final = 50


class GenerationService(generations_pb2_grpc.GenerationServiceServicer):
    """GenerationService: get, list, wait, watch, cancel, delete."""

    def __init__(
        self, generations: GenerationEngine, links: MediaLinkSigner, tokens: PageTokens
    ) -> None:
        self._generations = generations
        self._tokens = tokens
        self._links = links

    async def GetGeneration(
        self, request: generations_pb2.GetGenerationRequest, context: RpcContext
    ) -> generations_pb2.GetGenerationResponse:
        """Returns one generation as it is now."""
        record = await self._generations.get(rpc_context.current_caller().tenant, request.id)
        record_generation(record)
        stored = await self._generations.request(record)
        return generations_pb2.GetGenerationResponse(
            generation=await self._encode(record, request.view),
            request=requests.decode_stored_request(record.method, stored) if stored else None,
        )

    async def ListGenerations(
        self, request: generations_pb2.ListGenerationsRequest, context: RpcContext
    ) -> generations_pb2.ListGenerationsResponse:
        """Lists generations, newest first."""
        tokens = self._tokens.for_request("ListGenerations", request.filter, request.view)
        size = page_tokens.effective_page_size(request.page_size)
        position = _position(tokens.read(request.page_token))
        tenant, generation_filter = (
            rpc_context.current_caller().tenant,
            _decode_filter(request.filter),
        )
        page: list[generation_pb2.Generation] = []
        page_bytes, more = 0, True
        # A page is at most what a message may hold, and no more of it is read at a time.
        while more and len(page) < size and page_bytes <= _MAX_PAGE_BYTES:
            count = min(size - len(page), _READ_AT_ONCE)
            records = await self._generations.list_generations(
                tenant, generation_filter, count + 1, position
            )
            more = len(records) > count
            for record in records[:count]:
                generation = await self._encode(record, request.view)
                page_bytes += generation.ByteSize()
                if page and page_bytes > _MAX_PAGE_BYTES:
                    more = True
                    break
                page.append(generation)
                position = ListPosition(record.created_at, record.id)
        token = ""
        if more and position:
            token = tokens.write([position.created_at.isoformat(), position.id])
        return generations_pb2.ListGenerationsResponse(generations=page, next_page_token=token)

    async def WaitGeneration(
        self, request: generations_pb2.WaitGenerationRequest, context: RpcContext
    ) -> generations_pb2.WaitGenerationResponse:
        """Answers once the generation has ended, or after `wait`."""
        seconds = effective_wait(requested_wait(request), context)
        record = await self._generations.wait(
            rpc_context.current_caller().tenant, request.id, seconds
        )
        record_generation(record)
        return generations_pb2.WaitGenerationResponse(
            generation=await self._encode(record, request.view)
        )

    async def WatchGeneration(
        self, request: generations_pb2.WatchGenerationRequest, context: RpcContext
    ) -> AsyncIterator[generations_pb2.WatchGenerationResponse]:
        """Streams a generation at every change, up to its end."""
        changes = self._generations.watch(
            rpc_context.current_caller().tenant,
            request.id,
            request.after_sequence,
            logs=request.view == generation_pb2.GENERATION_VIEW_FULL,
        )
        async for sequence, record in changes:
            record_generation(record)
            yield generations_pb2.WatchGenerationResponse(
                generation=await self._encode(record, request.view),
                sequence=sequence,
            )

    async def CancelGeneration(
        self, request: generations_pb2.CancelGenerationRequest, context: RpcContext
    ) -> generations_pb2.CancelGenerationResponse:
        """Requests cancellation."""
        record = await self._generations.cancel(rpc_context.current_caller().tenant, request.id)
        record_generation(record)
        return generations_pb2.CancelGenerationResponse(generation=await self._encode(record))

    async def WatchGenerations(
        self, request: generations_pb2.WatchGenerationsRequest, context: RpcContext
    ) -> AsyncIterator[generations_pb2.WatchGenerationsResponse]:
        """Streams every change of all generations that match, until the caller leaves."""
        changes = await self._generations.watch_all(
            rpc_context.current_caller().tenant,
            _decode_filter(request.filter),
            request.after_sequence,
        )
        # Who sees these knows that no change from now on is missed.
        await context.send_initial_metadata(())
        async for change in changes:
            # One form for all who watch: made by each, a change would take as often as long.
            reply = change.forms.get(request.view)
            if reply is None:
                reply = change.forms[request.view] = generations_pb2.WatchGenerationsResponse(
                    generation=await self._encode(change.generation, request.view),
                    sequence=change.sequence,
                )
            yield reply
            del change, reply

    async def DeleteGeneration(
        self, request: generations_pb2.DeleteGenerationRequest, context: RpcContext
    ) -> generations_pb2.DeleteGenerationResponse:
        """Deletes the inputs and outputs of a generation."""
        await self._generations.erase(rpc_context.current_caller().tenant, request.id)
        return generations_pb2.DeleteGenerationResponse()

    async def _encode(
        self, record: Generation, view: int = generation_pb2.GENERATION_VIEW_BASIC
    ) -> generation_pb2.Generation:
        """Encode the generation with fresh links to its stored outputs."""
        full = view == generation_pb2.GENERATION_VIEW_FULL
        return responses.encode_generation(record, await self._links.links_for(record), full=full)


def _decode_filter(message: generations_pb2.GenerationFilter) -> GenerationFilter:
    modality = ""
    if message.modality:
        modality = modality_pb2.Modality.Name(message.modality).removeprefix("MODALITY_").lower()
    return GenerationFilter(
        states=_decode_states(message),
        models=tuple(message.models),
        modality=modality,
        labels=dict(message.labels),
        created_after=_moment(message.created_after) if message.HasField("created_after") else None,
        created_before=_moment(message.created_before)
        if message.HasField("created_before")
        else None,
    )


def _decode_states(message: generations_pb2.GenerationFilter) -> tuple[State, ...]:
    """An unspecified state among them means any."""
    if generation_pb2.Generation.STATE_UNSPECIFIED in message.states:
        return ()
    return tuple(_STATES[number] for number in message.states)


def _moment(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(UTC)


def _position(token: list[str] | None) -> ListPosition | None:
    return None if token is None else ListPosition(datetime.fromisoformat(token[0]), token[1])
