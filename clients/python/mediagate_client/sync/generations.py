# Generated from aio/generations.py by `make generate`. Do not edit.
"""What became of paid calls, blocking: look, wait, watch, list, cancel, delete."""

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
from mediagate.v1.generations_pb2_grpc import GenerationServiceStub
from mediagate_client.arguments import FilterArguments, Span
from mediagate_client.backends import blocking as backend
from mediagate_client.channel import Channels
from mediagate_client.conversion import seconds_of
from mediagate_client.error_mapping import from_rpc_error
from mediagate_client.errors import MediagateError
from mediagate_client.generation_result import is_failure, is_terminal, raise_for_failure
from mediagate_client.list_requests import list_request
from mediagate_client.sync.calls import Calls
from mediagate_client.wait_state import PAUSE_SECONDS, WatchState, wait_slice

_log: Final = logging.getLogger("mediagate_client")
_LAST_SECONDS: Final = 2.0


class GenerationCalls:
    """The part of a client that deals with generations by their id."""

    def __init__(self, calls: Calls, channels: Channels[grpc.Channel], read_timeout: float) -> None:
        """Use the channels; `read_timeout` bounds, in seconds, the calls that only look."""
        self._calls = calls
        self._generations = GenerationServiceStub(channels.control)
        self._waits = GenerationServiceStub(channels.waits)
        self._read_timeout = read_timeout

    def get(
        self, generation_id: str, *, view: GenerationView.ValueType = GENERATION_VIEW_BASIC
    ) -> Generation:
        """Return a generation as it stands, failed ones too."""
        request = GetGenerationRequest(id=generation_id, view=view)
        method = self._generations.GetGeneration
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
            method = self._generations.ListGenerations
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
        """Return a generation once it is terminal, or as it stands after `wait`.

        Raises the typed error of one that FAILED or was CANCELLED, unless told otherwise. Waiting
        neither keeps a generation alive nor ends it.
        """
        until = self._calls.deadline(seconds_of(wait))
        while True:
            request, seconds = wait_slice(generation_id, until, view)
            deadline = self._calls.deadline(seconds)
            method = self._waits.WaitGeneration
            response = self._calls.retried(method, request, deadline)
            generation = response.generation
            if is_terminal(generation) or not until.allows(PAUSE_SECONDS):
                return raise_for_failure(generation, raise_on_failure=raise_on_failure)
            self._calls.sleep(PAUSE_SECONDS)

    def watch(
        self, generation_id: str, *, view: GenerationView.ValueType = GENERATION_VIEW_BASIC
    ) -> Iterator[Generation]:
        """Iterate over a generation as it stands and after every change, to its terminal state.

        Goes on by itself after a cut. A failed generation is yielded like any other.
        """
        state = WatchState(generation_id, view)
        retries = self._calls.retries(self._calls.deadline(None))
        while not state.over:
            metadata = self._calls.metadata
            call = self._waits.WatchGeneration(state.next_request(), metadata=metadata)
            failure: MediagateError = state.ended_early()
            try:
                for response in call:
                    generation = state.receive(response)
                    if generation is not None:
                        retries.progressed()
                        yield generation
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
            finally:
                call.cancel()
            if not state.over:
                self._calls.pause(retries, failure)

    def cancel(self, generation_id: str) -> Generation:
        """Ask for the end of a generation, whoever else waits for it; return it as it stands.

        It is CANCELLED once Replicate has confirmed the end; what ran until then is paid.
        """
        request = CancelGenerationRequest(id=generation_id)
        deadline = self._calls.deadline(self._read_timeout)
        method = self._generations.CancelGeneration
        response = self._calls.retried(method, request, deadline)
        return response.generation

    def delete(self, generation_id: str) -> None:
        """Erase what a generation that is over was asked and what it made; what it cost stays.

        Doing it again is no harm.
        """
        request = DeleteGenerationRequest(id=generation_id)
        deadline = self._calls.deadline(self._read_timeout)
        self._calls.retried(self._generations.DeleteGeneration, request, deadline)

    def _cancel_on_leave(self, generation_id: str) -> None:
        """Cancel for a caller who is leaving: briefly, and without complaint if it fails.

        The gate finds out by itself, after the grace that the request gave it.
        """
        if not backend.with_time_limit(_LAST_SECONDS, self._try_cancel, generation_id):
            _log.debug("no answer to the cancel of %s", generation_id)

    def _try_cancel(self, generation_id: str) -> None:
        request = CancelGenerationRequest(id=generation_id)
        try:
            self._calls.once(self._generations.CancelGeneration, request, _LAST_SECONDS)
        except MediagateError as failure:
            _log.debug("could not cancel %s: %s", generation_id, failure)

    def _get_if_failed(self, generation_id: str) -> Generation | None:
        """Return a generation that ended badly, for the error that tells of it; None: not had."""
        request = GetGenerationRequest(id=generation_id)
        try:
            found = self._calls.once(self._generations.GetGeneration, request, _LAST_SECONDS)
        except MediagateError as failure:
            _log.debug("could not get %s: %s", generation_id, failure)
            return None
        return found.generation if is_failure(found.generation) else None
