"""The way of every paid rpc through this room: check, plan, bind, attach, wait, answer."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import grpc

from mediagate.v1 import options_pb2
from mediagate_server.api.convert import requests, responses
from mediagate_server.api.convert import requests as stored_requests
from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.planning import request_media
from mediagate_server.catalog.planning.fallback import FallbackChain
from mediagate_server.catalog.planning.request_plan import (
    RequestPlan,
    add_screening,
    screening_request,
)
from mediagate_server.catalog.planning.response_format import requested_format
from mediagate_server.catalog.planning.run_any_model import build_input, plan_model_run
from mediagate_server.catalog.planning.schema_validation import SchemaValidator
from mediagate_server.catalog.published.model_registry import (
    ModelReference,
    PublishedModelRegistry,
    PublishedModelVersion,
)
from mediagate_server.catalog.request import Modality, RunRequest
from mediagate_server.catalog.schemas.openapi import OutputPath
from mediagate_server.config.tenants import StoreInputs
from mediagate_server.context import call_summary, caller
from mediagate_server.errors import ScopeMissing
from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.generations.execution.attachment import Attachment
from mediagate_server.generations.execution.execution_plan import ExecutionPlan
from mediagate_server.generations.inputs.media_inputs import MediaInputs
from mediagate_server.generations.submission import Submission, canonical_request_id
from mediagate_server.media.signed_links import NO_LINKS, MediaLinkSigner, SignedLink
from mediagate_server.runtime.fair_scheduler import MAX_STEP, FairScheduler
from mediagate_server.store.records import Generation

RpcContext = grpc.aio.ServicerContext[Any, Any]

RESPONSE_MARGIN: Final = 0.2
"""Seconds before the rpc's deadline at which a waiting call answers with what there is."""

DISCONNECT_GRACE: Final = 15.0
"""Seconds for which a caller is waited for who left without an answer and set no grace: a cut is a
fault of the network far more often than a wish.
"""

CHECK_SECONDS: Final = 0.0025
"""By which two steps of one tenant's paid calls are apart while another tenant is there. Each call
has two or more, and takes some 2.5 ms of the event loop: to be planned, bound, sent and told.
"""


@dataclass(frozen=True, slots=True)
class UnaryResult:
    """What a unary paid rpc answers; `route` alone under validate_only."""

    record: Generation | None = None
    replayed: bool = False
    route: RequestPlan | None = None
    links: Mapping[int, SignedLink] = field(default_factory=lambda: NO_LINKS)

    def fields(self) -> dict[str, Any]:
        """As the fields of any `<Verb>Response`."""
        return {
            "generation": responses.encode_generation(self.record, self.links)
            if self.record
            else None,
            "replayed": self.replayed,
            "plan": responses.encode_request_plan(self.route) if self.route else None,
        }


@dataclass(frozen=True, slots=True)
class StartedCall:
    """A unary paid rpc whose request is bound, or only planned. `wait`: seconds, None: no bound."""

    links: MediaLinkSigner
    wait: float | None
    attachment: Attachment | None = None
    route: RequestPlan | None = None

    async def answer(self, context: RpcContext) -> UnaryResult:
        """Wait for the end, or for as long as was asked."""
        if self.attachment is None:
            return UnaryResult(route=self.route)
        async with self.attachment as attached:
            record = await attached.wait(effective_wait(self.wait, context))
        record_generation(record)
        return UnaryResult(record, attached.replayed, links=await self.links.links_for(record))


class BillableCallHandler:
    """What all paid rpcs share. `catalog`, `timeouts` (seconds) and `store_inputs`, which
    tells how much of a tenant's requests is stored, are asked at each call.
    """

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        published: PublishedModelRegistry,
        schemas: SchemaValidator,
        generations: GenerationEngine,
        media_inputs: MediaInputs,
        links: MediaLinkSigner,
        timeouts: Callable[[], Mapping[Modality, float]],
        store_inputs: Callable[[str], StoreInputs],
        share: FairScheduler,
        allows_next: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._catalog = catalog
        self._published = published
        self._schemas = schemas
        self._generations = generations
        self._media = media_inputs
        self.links = links
        """To what is kept of a generation."""
        self._timeouts = timeouts
        self._store_inputs = store_inputs
        self._allows_next = allows_next
        self._share = share

    async def start(
        self, request: Any, *, method: str, modality: Modality, wait_by_default: bool
    ) -> StartedCall:
        """Bind the request of a unary paid rpc; under validate_only only plan it.

        Handlers let go of the request then: it may be large, and the run may take minutes.
        """
        wait = requested_wait(request)
        if wait is None and not wait_by_default:
            wait = 0.0
        if request.validate_only:
            return StartedCall(
                self.links,
                wait,
                route=await self.build_request_plan(request, method=method, modality=modality),
            )
        attachment = await self.attach(request, method=method, modality=modality)
        return StartedCall(self.links, wait, attachment)

    async def build_request_plan(
        self, request: Any, *, method: str, modality: Modality
    ) -> RequestPlan:
        """What the request would do and cost, by the code that admits it. Spends nothing.

        Raises what the rpc itself would raise before it is accepted, but for what passes by itself.
        """
        submission = await self._submit(request, method, modality)
        goes_next = self._allows_next_when_unconfirmed(request.options)
        wanted, route = await self._plan_with_screening(request, modality)
        taken = await route(wanted)
        await self._media.check(submission.tenant, wanted)
        planned = _work_of(taken, next_when_unconfirmed=goes_next)
        await self._generations.check_submission(submission, planned)
        return taken

    async def attach(self, request: Any, *, method: str, modality: Modality) -> Attachment:
        """Attach to what the request is bound to; else plan it and bind it."""
        submission = await self._submit(request, method, modality)
        attachment = await self._generations.find_existing(submission)
        if attachment is None:
            plan = await self._plan_request(request, modality)
            attachment = await self._generations.submit(submission, plan)
        return attachment

    async def _submit(self, request: Any, method: str, modality: Modality) -> Submission:
        """The submission, made when it is the tenant's turn."""
        with await self._check_turn(request):
            return self._submission(request, method, modality)

    async def _check_turn(self, request: Any) -> AbstractContextManager[None]:
        """Wait for the tenant's turn at a step, which follows at once; with a large request it may
        take much longer, and is charged.

        Nothing is held while upstream is asked about a model or handed a file: whoever comes back
        to a run would wait for that, and lose it.
        """
        tenant = caller.current_caller().tenant
        if self._share.has_no_wait(tenant):
            return nullcontext()
        await self._share.acquire(tenant, CHECK_SECONDS)
        is_large = request.ByteSize() > MAX_STEP
        return self._share.measure(tenant) if is_large else nullcontext()

    async def _plan_request(self, request: Any, modality: Modality) -> ExecutionPlan:
        """What is to be done, with a link for each medium, had once the rest is seen to work."""
        goes_next = self._allows_next_when_unconfirmed(request.options)
        wanted, route = await self._plan_with_screening(request, modality)
        taken = await route(wanted)
        if request_media.unresolved_media(wanted):
            taken = await route(await self._media.resolve(caller.current_caller().tenant, wanted))
        return _work_of(taken, next_when_unconfirmed=goes_next)

    async def _plan_with_screening(
        self, request: Any, modality: Modality
    ) -> tuple[Any, Callable[[Any], Awaitable[RequestPlan]]]:
        """The request in our own words, and what makes a route of it."""
        wanted, planner = await self._planning(request, modality)

        async def route(asked_for: Any) -> RequestPlan:
            chain = await planner(asked_for)
            if not request.options.screen_prompt:
                with await self._check_turn(request):
                    return RequestPlan(chain(asked_for))
            # Of the request as it came: a text among its media may by now be a link.
            check = screening_request(wanted, await self._link_paths(request, wanted, chain))
            with await self._check_turn(request):
                return add_screening(asked_for, check, self._catalog().plan, chain)

        return wanted, route

    async def _link_paths(
        self, request: Any, wanted: Any, chain: Callable[[Any], FallbackChain]
    ) -> frozenset[OutputPath]:
        """Where the model's own inputs hold links, by its schema."""
        if isinstance(wanted, RunRequest):
            runnable = await self._published.find(ModelReference.parse(request.model))
            return runnable.schema.input_link_paths
        if not wanted.model_parameters:
            return frozenset()
        model = self._catalog().find_by_slug(chain(wanted).plans[0].slug)
        return model.link_paths if model else frozenset()

    async def _planning(
        self, request: Any, modality: Modality
    ) -> tuple[Any, Callable[[Any], Awaitable[Callable[[Any], FallbackChain]]]]:
        """The request in our own words, and what checks it and then gives what plans it."""
        timeout = self._timeout(request.options, modality)
        if modality is not Modality.RAW:
            wanted = requests.decode_model_request(request, modality, timeout)
            if form := requested_format(wanted.parameters):
                await self._schemas.check_form(form, caller.current_caller().tenant)
            return wanted, self._chain
        runnable = await self._published.find(ModelReference.parse(request.model))
        await self._schemas.prepare(runnable.schema, caller.current_caller().tenant)
        return requests.decode_run_request(request, timeout), partial(self._run, runnable)

    async def _chain(self, _: Any) -> Callable[[Any], FallbackChain]:
        return self._catalog().plan_with_fallbacks

    async def _run(
        self, runnable: PublishedModelVersion, wanted: RunRequest
    ) -> Callable[[Any], FallbackChain]:
        """What plans a run of any model, whose inputs are checked by its own schema."""
        problems = await self._schemas.input_problems(
            runnable.schema, build_input(wanted, runnable), caller.current_caller().tenant
        )
        catalog = self._catalog()
        known, assumed = catalog.find_by_slug(runnable.model), catalog.assume_unknown_usd

        def plan(wanted: RunRequest) -> FallbackChain:
            planned = plan_model_run(
                wanted,
                runnable,
                known,
                assumed,
                problems=problems,
                allow_weaker_safety=catalog.allow_weaker_safety,
            )
            return FallbackChain((planned,))

        return plan

    def _submission(self, request: Any, method: str, modality: Modality) -> Submission:
        options = request.options
        tenant = caller.current_caller().tenant
        fingerprint, reuse_key = requests.fingerprint_and_reuse_key(
            self._generations.hash_key, method, request
        )
        return Submission(
            tenant=tenant,
            method=method,
            request_id=canonical_request_id(request.request_id),
            fingerprint=fingerprint,
            timeout=self._timeout(options, modality),
            cancel_on_disconnect=options.on_disconnect != options_pb2.ON_DISCONNECT_DETACH,
            grace=_grace(options),
            labels=dict(options.labels),
            is_server_generated_id=not request.request_id,
            webhook_url=options.webhook_url,
            request=stored_requests.encode_stored_request(request, self._store_inputs(tenant)),
            reuse_key=reuse_key,
            reuse_within=requests.duration_to_seconds(options.reuse_within),
        )

    def _allows_next_when_unconfirmed(self, options: options_pb2.GenerationOptions) -> bool:
        """Whether another model is sent while one is in doubt. Raises where that is not allowed."""
        if options.when_unconfirmed != options_pb2.WHEN_UNCONFIRMED_NEXT:
            return False
        if not self._allows_next(caller.current_caller().tenant):
            raise ScopeMissing(
                "options.when_unconfirmed: NEXT may pay twice, and is not allowed here",
                metadata={"field": "options.when_unconfirmed"},
            )
        return True

    def _timeout(self, options: options_pb2.GenerationOptions, modality: Modality) -> float:
        if options.HasField("timeout"):
            return requests.duration_to_seconds(options.timeout)
        return self._timeouts()[modality]


def _grace(options: options_pb2.GenerationOptions) -> float:
    if options.HasField("disconnect_grace"):
        return requests.duration_to_seconds(options.disconnect_grace)
    return DISCONNECT_GRACE


def _work_of(route: RequestPlan, *, next_when_unconfirmed: bool) -> ExecutionPlan:
    """What a route sets going."""
    return ExecutionPlan.of(
        *route.fallback_chain.plans,
        screening=route.screening_plan,
        after_content_refusal=route.fallback_chain.after_content_refusal,
        not_screened=route.not_screened,
        next_when_unconfirmed=next_when_unconfirmed,
    )


def requested_wait(request: Any) -> float | None:
    """Seconds of a request's `wait`; None where it has none."""
    return requests.duration_to_seconds(request.wait) if request.HasField("wait") else None


def effective_wait(wait: float | None, context: RpcContext) -> float | None:
    """Seconds to wait for the end, `wait` at the most; None: as long as it takes."""
    remaining = context.time_remaining()
    if remaining is None:
        return wait
    most = max(remaining - RESPONSE_MARGIN, 0.0)
    return most if wait is None else min(wait, most)


def record_generation(record: Generation) -> None:
    """Tell metering and the access log which generation this rpc was about, and its cost."""
    settled = record.cost.nanos if record.state.is_terminal else None
    call_summary.update_summary(generation_id=record.id, model=record.model, cost_nanos=settled)
