# Generated from aio/generations.py by `make generate`. Do not edit.
"""Calls of GenerationService, blocking: get, list, wait, watch, cancel, delete."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final, Unpack

import grpc

from mediagate.v1.generation_pb2 import GENERATION_VIEW_BASIC, Generation, GenerationView
from mediagate.v1.generations_pb2 import (
    CancelGenerationRequest,
    DeleteGenerationRequest,
    GetGenerationRequest,
)
from mediagate_client.arguments import FilterArguments, Span
from mediagate_client.backends import blocking as backend
from mediagate_client.connections import Connections
from mediagate_client.conversion import build, seconds_of
from mediagate_client.error_mapping import from_rpc_error
from mediagate_client.errors import MediagateError
from mediagate_client.generation_result import is_failure, is_terminal, raise_for_failure
from mediagate_client.list_requests import list_request
from mediagate_client.sync.calls import Calls
from mediagate_client.sync.stubs import Stubs
from mediagate_client.wait_state import PAUSE_SECONDS, WatchState, wait_slice

_log: Final = logging.getLogger("mediagate_client")
_LEAVE_SECONDS: Final = 2.0


class GenerationCalls:
    """Part of the client: generations by their id."""

    def __init__(self, calls: Calls, connections: Connections[Stubs], read_timeout: float) -> None:
        """Use the connections; `read_timeout` is the limit of reads, in seconds."""
        self._calls = calls
        self._connections = connections
        self._read_timeout = read_timeout

    @property
    def _stubs(self) -> Stubs:
        """The stubs for calls from here. Raises ClientNotUsable once the client is closed."""
        return self._connections.get(backend.current_loop())

    def get(
        self, generation_id: str, *, view: GenerationView.ValueType = GENERATION_VIEW_BASIC
    ) -> Generation:
        """Get a generation in its current state; a failed one is returned, too."""
        request = build(GetGenerationRequest, id=generation_id, view=view)
        method = self._stubs.generations.GetGeneration
        response = self._calls.read(method, request, self._read_timeout)
        return response.generation

    def list(
        self,
        *,
        page_size: int = 0,
        view: GenerationView.ValueType = GENERATION_VIEW_BASIC,
        **filters: Unpack[FilterArguments],
    ) -> Iterator[Generation]:
        """Iterate over all generations that the filters match, newest first."""
        request = list_request(filters, page_size, view)
        while True:
            method = self._stubs.generations.ListGenerations
            page = self._calls.read(method, request, self._read_timeout)
            for generation in page.generations:
                yield generation
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def wait(
        self,
        generation_id: str,
        *,
        wait: Span | None = None,
        view: GenerationView.ValueType = GENERATION_VIEW_BASIC,
        raise_on_failure: bool = True,
    ) -> Generation:
        """Wait until a generation is terminal, or for `wait`, and return it.

        Raises the typed error of one that is FAILED or CANCELLED, unless `raise_on_failure` is
        False. Waiting neither keeps a generation alive nor ends it.
        """
        until = self._calls.deadline(seconds_of(wait, "wait"))
        while True:
            request, seconds = wait_slice(generation_id, until, view)
            deadline = self._calls.deadline(seconds)
            method = self._stubs.waits.WaitGeneration
            response = self._calls.call_with_retries(method, request, deadline)
            generation = response.generation
            if is_terminal(generation) or not until.allows(PAUSE_SECONDS):
                return raise_for_failure(generation, raise_on_failure=raise_on_failure)
            self._calls.sleep(PAUSE_SECONDS)

    def watch(
        self, generation_id: str, *, view: GenerationView.ValueType = GENERATION_VIEW_BASIC
    ) -> Iterator[Generation]:
        """Iterate over the states of a generation: the current one, then every change to the end.

        Reconnects after an interruption. A failed generation is yielded like any other.
        """
        state = WatchState(generation_id, view)
        retries = self._calls.retries(self._calls.deadline(None))
        while not state.ended:
            call = backend.open_stream(
                self._stubs.waits.WatchGeneration, state.next_request(), None, self._calls.metadata
            )
            failure: MediagateError = state.incomplete_error()
            try:
                while (response := backend.next_message(call)) is not None:
                    generation = state.receive(response)
                    if generation is not None:
                        retries.reset()
                        yield generation
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
            finally:
                call.cancel()
            if not state.ended:
                self._calls.pause(retries, failure)

    def cancel(self, generation_id: str) -> Generation:
        """Request cancellation of a generation; return it in its current state.

        It is CANCELLED once Replicate has confirmed the end; what ran until then is billed.
        """
        request = build(CancelGenerationRequest, id=generation_id)
        deadline = self._calls.deadline(self._read_timeout)
        method = self._stubs.generations.CancelGeneration
        response = self._calls.call_with_retries(method, request, deadline)
        return response.generation

    def delete(self, generation_id: str) -> None:
        """Delete the inputs and outputs of a terminal generation; its cost stays. Idempotent."""
        request = build(DeleteGenerationRequest, id=generation_id)
        deadline = self._calls.deadline(self._read_timeout)
        self._calls.call_with_retries(self._stubs.generations.DeleteGeneration, request, deadline)

    def _cancel_on_leave(self, generation_id: str) -> None:
        """Cancel for a caller that disconnects: within 2 s, a failure is only logged.

        The server cancels it anyway after the disconnect grace of the request.
        """
        if not backend.with_time_limit(_LEAVE_SECONDS, self._try_cancel, generation_id):
            _log.debug("no answer to the cancel of %s", generation_id)

    def _try_cancel(self, generation_id: str) -> None:
        request = CancelGenerationRequest(id=generation_id)
        try:
            self._calls.call_once(self._stubs.generations.CancelGeneration, request, _LEAVE_SECONDS)
        except MediagateError as failure:
            _log.debug("could not cancel %s: %s", generation_id, failure)

    def _get_if_failed(self, generation_id: str) -> Generation | None:
        """Get a failed generation to attach to an error; None if it did not fail."""
        request = GetGenerationRequest(id=generation_id)
        try:
            response = self._calls.call_once(
                self._stubs.generations.GetGeneration, request, _LEAVE_SECONDS
            )
        except MediagateError as failure:
            _log.debug("could not get %s: %s", generation_id, failure)
            return None
        return response.generation if is_failure(response.generation) else None
