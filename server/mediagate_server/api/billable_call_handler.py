"""Shared handler of billable rpcs: validate, plan, submit, attach, wait, answer."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import grpc

from mediagate.v1 import options_pb2
from mediagate_server import rpc_context
from mediagate_server.api.convert import requests, responses
from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.planning import request_media
from mediagate_server.catalog.planning.fallback import FallbackChain
from mediagate_server.catalog.planning.request_plan import (
    RequestPlan,
    add_screening,
    screening_request,
)
from mediagate_server.catalog.planning.run_any_model import build_input, plan_model_run
from mediagate_server.catalog.planning.schema_validation import SchemaValidator
from mediagate_server.catalog.planning.translation import requested_format
from mediagate_server.catalog.published_models import (
    ModelReference,
    PublishedModelRegistry,
    PublishedModelVersion,
)
from mediagate_server.catalog.request import Modality, RunRequest
from mediagate_server.catalog.schemas.openapi import OutputPath
from mediagate_server.config.tenants import StoreInputs
from mediagate_server.errors import ScopeMissing
from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.generations.execution.attachment import Attachment
from mediagate_server.generations.execution.execution_plan import ExecutionPlan
from mediagate_server.generations.inputs.media_inputs import MediaInputs
from mediagate_server.generations.submission_request import Submission, canonical_request_id
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
"""By which two steps of one tenant's billable calls are apart while another tenant is there. Each
call has two or more, and takes some 2.5 ms of the event loop: planned, bound, sent, answered.
"""


@dataclass(frozen=True, slots=True)
class UnaryResult:
    """The response of a unary billable rpc; `plan` alone under validate_only."""

    record: Generation | None = None
    replayed: bool = False
    plan: RequestPlan | None = None
    links: Mapping[int, SignedLink] = field(default_factory=lambda: NO_LINKS)

    def fields(self) -> dict[str, Any]:
        """The fields of any `<Verb>Response`."""
        return {
            "generation": responses.encode_generation(self.record, self.links)
            if self.record
            else None,
            "replayed": self.replayed,
            "plan": responses.encode_request_plan(self.plan) if self.plan else None,
        }


@dataclass(frozen=True, slots=True)
class StartedCall:
    """A unary billable rpc whose request is bound, or only planned.

    `wait`: seconds; None: no bound.
    """

    links: MediaLinkSigner
    wait: float | None
    attachment: Attachment | None = None
    plan: RequestPlan | None = None

    async def answer(self, context: RpcContext) -> UnaryResult:
        """Wait for the end, or for `wait`, and build the response."""
        if self.attachment is None:
            return UnaryResult(plan=self.plan)
        async with self.attachment as attached:
            record = await attached.wait(effective_wait(self.wait, context))
        record_generation(record)
        return UnaryResult(record, attached.replayed, links=await self.links.links_for(record))


class BillableCallHandler:
    """Handler of billable rpcs: validation, planning and submission.

    `catalog`, `timeouts` (seconds) and `store_inputs`, which tells how much of a tenant's requests
    is stored, are asked at each call.
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
        scheduler: FairScheduler,
        allows_next: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._catalog = catalog
        self._published = published
        self._schemas = schemas
        self._generations = generations
        self._media = media_inputs
        self.links = links
        """Links to stored outputs."""
        self._timeouts = timeouts
        self._store_inputs = store_inputs
        self._allows_next = allows_next
        self._scheduler = scheduler

    async def start(
        self, request: Any, *, method: str, modality: Modality, wait_by_default: bool
    ) -> StartedCall:
        """Bind the request of a unary billable rpc; under validate_only only plan it.

        Handlers let go of the request then: it may be large, and the run may take minutes.
        """
        wait = requested_wait(request)
        if wait is None and not wait_by_default:
            wait = 0.0
        if request.validate_only:
            return StartedCall(
                self.links,
                wait,
                plan=await self.build_request_plan(request, method=method, modality=modality),
            )
        attachment = await self.attach(request, method=method, modality=modality)
        return StartedCall(self.links, wait, attachment)

    async def build_request_plan(
        self, request: Any, *, method: str, modality: Modality
    ) -> RequestPlan:
        """Plan a request and check that it would be accepted, without running it. Spends nothing.

        Raises what the rpc itself would raise before it is accepted, but for transient failures.
        """
        submission = await self._submit(request, method, modality)
        goes_next = self._allows_next_when_unconfirmed(request.options)
        model_request, plan = await self._plan_with_screening(request, modality)
        request_plan = await plan(model_request)
        await self._media.check(submission.tenant, model_request)
        execution_plan = _execution_plan(request_plan, next_when_unconfirmed=goes_next)
        await self._generations.check_submission(submission, execution_plan)
        return request_plan

    async def attach(self, request: Any, *, method: str, modality: Modality) -> Attachment:
        """Attach to what the request is bound to; else plan it and bind it."""
        submission = await self._submit(request, method, modality)
        attachment = await self._generations.find_existing(submission)
        if attachment is None:
            plan = await self._plan_request(request, modality)
            attachment = await self._generations.submit(submission, plan)
        return attachment

    async def _submit(self, request: Any, method: str, modality: Modality) -> Submission:
        """Build the submission when it is the tenant's turn."""
        with await self._check_turn(request):
            return self._submission(request, method, modality)

    async def _check_turn(self, request: Any) -> AbstractContextManager[None]:
        """Wait for the tenant's turn at a step, which follows at once; with a large request it may
        take much longer, and is charged.

        No turn is held while upstream is asked about a model or handed a file: whoever comes back
        to a run would wait for that, and lose it.
        """
        tenant = rpc_context.current_caller().tenant
        if self._scheduler.has_no_wait(tenant):
            return nullcontext()
        await self._scheduler.acquire(tenant, CHECK_SECONDS)
        is_large = request.ByteSize() > MAX_STEP
        return self._scheduler.measure(tenant) if is_large else nullcontext()

    async def _plan_request(self, request: Any, modality: Modality) -> ExecutionPlan:
        """The execution plan. Media get their links last: once the rest is known to work."""
        goes_next = self._allows_next_when_unconfirmed(request.options)
        model_request, plan = await self._plan_with_screening(request, modality)
        request_plan = await plan(model_request)
        if request_media.unresolved_media(model_request):
            tenant = rpc_context.current_caller().tenant
            request_plan = await plan(await self._media.resolve(tenant, model_request))
        return _execution_plan(request_plan, next_when_unconfirmed=goes_next)

    async def _plan_with_screening(
        self, request: Any, modality: Modality
    ) -> tuple[Any, Callable[[Any], Awaitable[RequestPlan]]]:
        """The decoded request, and what plans it with the screening of its prompt."""
        model_request, validate = await self._planning(request, modality)

        async def plan(resolved: Any) -> RequestPlan:
            plan_models = await validate(resolved)
            if not request.options.screen_prompt:
                with await self._check_turn(request):
                    return RequestPlan(plan_models(resolved))
            # Of the request as it came: a text among its media may by now be a link.
            paths = await self._link_paths(request, model_request, plan_models)
            check = screening_request(model_request, paths)
            with await self._check_turn(request):
                return add_screening(resolved, check, self._catalog().plan, plan_models)

        return model_request, plan

    async def _link_paths(
        self, request: Any, model_request: Any, plan_models: Callable[[Any], FallbackChain]
    ) -> frozenset[OutputPath]:
        """Where the model's own inputs hold links, by its schema."""
        if isinstance(model_request, RunRequest):
            runnable = await self._published.find(ModelReference.parse(request.model))
            return runnable.schema.input_link_paths
        if not model_request.model_parameters:
            return frozenset()
        model = self._catalog().find_by_slug(plan_models(model_request).plans[0].slug)
        return model.link_paths if model else frozenset()

    async def _planning(
        self, request: Any, modality: Modality
    ) -> tuple[Any, Callable[[Any], Awaitable[Callable[[Any], FallbackChain]]]]:
        """The decoded request, and what validates it and then gives what plans its models."""
        timeout = self._timeout(request.options, modality)
        if modality is not Modality.RAW:
            model_request = requests.decode_model_request(request, modality, timeout)
            if form := requested_format(model_request.parameters):
                await self._schemas.check_response_format(form, rpc_context.current_caller().tenant)
            return model_request, self._plan_catalog_models
        runnable = await self._published.find(ModelReference.parse(request.model))
        await self._schemas.prepare(runnable.schema, rpc_context.current_caller().tenant)
        return requests.decode_run_request(request, timeout), partial(
            self._plan_published_model, runnable
        )

    async def _plan_catalog_models(self, _: Any) -> Callable[[Any], FallbackChain]:
        return self._catalog().plan_with_fallbacks

    async def _plan_published_model(
        self, runnable: PublishedModelVersion, run_request: RunRequest
    ) -> Callable[[Any], FallbackChain]:
        """What plans a run of any model, whose inputs are validated by its own schema."""
        problems = await self._schemas.input_problems(
            runnable.schema, build_input(run_request, runnable), rpc_context.current_caller().tenant
        )
        catalog = self._catalog()
        model, assumed = catalog.find_by_slug(runnable.model), catalog.assume_unknown_usd

        def plan_models(run_request: RunRequest) -> FallbackChain:
            plan = plan_model_run(
                run_request,
                runnable,
                model,
                assumed,
                problems=problems,
                allow_weaker_safety=catalog.allow_weaker_safety,
            )
            return FallbackChain((plan,))

        return plan_models

    def _submission(self, request: Any, method: str, modality: Modality) -> Submission:
        options = request.options
        tenant = rpc_context.current_caller().tenant
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
            request=requests.encode_stored_request(request, self._store_inputs(tenant)),
            reuse_key=reuse_key,
            reuse_within=requests.duration_to_seconds(options.reuse_within),
        )

    def _allows_next_when_unconfirmed(self, options: options_pb2.GenerationOptions) -> bool:
        """Whether another model is tried while an attempt is unconfirmed. Raises ScopeMissing."""
        if options.when_unconfirmed != options_pb2.WHEN_UNCONFIRMED_NEXT:
            return False
        if not self._allows_next(rpc_context.current_caller().tenant):
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


def _execution_plan(plan: RequestPlan, *, next_when_unconfirmed: bool) -> ExecutionPlan:
    return ExecutionPlan.of(
        *plan.fallback_chain.plans,
        screening=plan.screening_plan,
        after_content_refusal=plan.fallback_chain.after_content_refusal,
        not_screened=plan.not_screened,
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
    """Record the rpc's generation and its cost for the trailer and the access log."""
    settled = record.cost.nanos if record.state.is_terminal else None
    rpc_context.update_summary(generation_id=record.id, model=record.model, cost_nanos=settled)
