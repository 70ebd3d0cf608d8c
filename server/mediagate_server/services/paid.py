"""The way of every paid rpc through this room: check, plan, bind, attach, wait, answer."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import grpc

from mediagate.v1 import options_pb2
from mediagate_server import caller, receipt
from mediagate_server.catalog import media
from mediagate_server.catalog.any_model import inputs_of, plan_run
from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.chains import Candidates
from mediagate_server.catalog.forms import wanted_form
from mediagate_server.catalog.openapi import Path
from mediagate_server.catalog.published import PublishedModels, Runnable
from mediagate_server.catalog.reference import Reference
from mediagate_server.catalog.request import Modality, RunRequest
from mediagate_server.catalog.route import Route, screened
from mediagate_server.catalog.schema_checks import SchemaChecks
from mediagate_server.catalog.screening import screening_request
from mediagate_server.config.tenants import StoreInputs
from mediagate_server.errors import ScopeMissing
from mediagate_server.generations.attachment import Attachment
from mediagate_server.generations.generations import Generations
from mediagate_server.generations.media_inputs import MediaInputs
from mediagate_server.generations.submission import Submission, canonical_request_id
from mediagate_server.generations.work import Work
from mediagate_server.loop_share import MOST_AT_ONCE, LoopShare
from mediagate_server.outputs.links import NO_LINKS, Link, MediaLinks
from mediagate_server.services import asked, shown, stored_requests
from mediagate_server.store.records import Generation

Context = grpc.aio.ServicerContext[Any, Any]

BEFORE_DEADLINE: Final = 0.2
"""Seconds before the rpc's deadline at which a waiting call answers with what there is."""

DISCONNECT_GRACE: Final = 15.0
"""Seconds for which a caller is waited for who left without an answer and set no grace: a cut is a
fault of the network far more often than a wish.
"""

STEP_SECONDS: Final = 0.0025
"""By which two steps of one tenant's paid calls are apart while another tenant is there. Each call
has two or more, and takes some 2.5 ms of the event loop: to be planned, bound, sent and told.
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a unary paid rpc answers; `route` alone under validate_only."""

    record: Generation | None = None
    replayed: bool = False
    route: Route | None = None
    links: Mapping[int, Link] = field(default_factory=lambda: NO_LINKS)

    def fields(self) -> dict[str, Any]:
        """As the fields of any `<Verb>Response`."""
        return {
            "generation": shown.generation(self.record, self.links) if self.record else None,
            "replayed": self.replayed,
            "plan": shown.route(self.route) if self.route else None,
        }


@dataclass(frozen=True, slots=True)
class Begun:
    """A unary paid rpc whose request is bound, or only planned. `wait`: seconds, None: no bound."""

    links: MediaLinks
    wait: float | None
    attachment: Attachment | None = None
    route: Route | None = None

    async def answer(self, context: Context) -> Answer:
        """Wait for the end, or for as long as was asked."""
        if self.attachment is None:
            return Answer(route=self.route)
        async with self.attachment as attached:
            record = await attached.until_settled(waiting_time(self.wait, context))
        report(record)
        return Answer(record, attached.replayed, links=await self.links.of(record))


class PaidCalls:
    """What all paid rpcs share. `catalog`, `timeouts` (seconds) and `store_inputs`, which
    tells how much of a tenant's requests is stored, are asked at each call.
    """

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        published: PublishedModels,
        schemas: SchemaChecks,
        generations: Generations,
        media_inputs: MediaInputs,
        links: MediaLinks,
        timeouts: Callable[[], Mapping[Modality, float]],
        store_inputs: Callable[[str], StoreInputs],
        share: LoopShare,
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

    async def begin(
        self, request: Any, *, method: str, modality: Modality, wait_by_default: bool
    ) -> Begun:
        """Bind the request of a unary paid rpc; under validate_only only plan it.

        Handlers let go of the request then: it may be large, and the run may take minutes.
        """
        wait = asked_wait(request)
        if wait is None and not wait_by_default:
            wait = 0.0
        if request.validate_only:
            return Begun(
                self.links, wait, route=await self.route(request, method=method, modality=modality)
            )
        attachment = await self.attach(request, method=method, modality=modality)
        return Begun(self.links, wait, attachment)

    async def route(self, request: Any, *, method: str, modality: Modality) -> Route:
        """What the request would do and cost, by the code that admits it. Spends nothing.

        Raises what the rpc itself would raise before it is accepted, but for what passes by itself.
        """
        submission = await self._submitted(request, method, modality)
        goes_next = self._goes_next(request.options)
        wanted, route = await self._routing(request, modality)
        taken = await route(wanted)
        await self._media.check(submission.tenant, wanted)
        planned = _work_of(taken, next_when_unconfirmed=goes_next)
        await self._generations.check(submission, planned)
        return taken

    async def attach(self, request: Any, *, method: str, modality: Modality) -> Attachment:
        """Bind the request, or attach to what it is bound to."""
        return await self._generations.start(
            await self._submitted(request, method, modality),
            lambda: self._planned(request, modality),
        )

    async def _submitted(self, request: Any, method: str, modality: Modality) -> Submission:
        """The submission, made when it is the tenant's turn."""
        with await self._step(request):
            return self._submission(request, method, modality)

    async def _step(self, request: Any) -> AbstractContextManager[None]:
        """Wait for the tenant's turn at a step, which follows at once; with a large request it may
        take much longer, and is charged.

        Nothing is held while upstream is asked about a model or handed a file: whoever comes back
        to a run would wait for that, and lose it.
        """
        tenant = caller.current().tenant
        if self._share.is_free(tenant):
            return nullcontext()
        await self._share.turn(tenant, STEP_SECONDS)
        is_large = request.ByteSize() > MOST_AT_ONCE
        return self._share.charged(tenant) if is_large else nullcontext()

    async def _planned(self, request: Any, modality: Modality) -> Work:
        """What is to be done, with a link for each medium, had once the rest is seen to work."""
        goes_next = self._goes_next(request.options)
        wanted, route = await self._routing(request, modality)
        taken = await route(wanted)
        if media.missing(wanted):
            taken = await route(await self._media.resolve(caller.current().tenant, wanted))
        return _work_of(taken, next_when_unconfirmed=goes_next)

    async def _routing(
        self, request: Any, modality: Modality
    ) -> tuple[Any, Callable[[Any], Awaitable[Route]]]:
        """The request in our own words, and what makes a route of it."""
        wanted, planner = await self._planning(request, modality)

        async def route(asked_for: Any) -> Route:
            chain = await planner(asked_for)
            if not request.options.screen_prompt:
                with await self._step(request):
                    return Route(chain(asked_for))
            # Of the request as it came: a text among its media may by now be a link.
            check = screening_request(wanted, await self._link_paths(request, wanted, chain))
            with await self._step(request):
                return screened(asked_for, check, self._catalog().plan, chain)

        return wanted, route

    async def _link_paths(
        self, request: Any, wanted: Any, chain: Callable[[Any], Candidates]
    ) -> frozenset[Path]:
        """Where the model's own inputs hold links, by its schema."""
        if isinstance(wanted, RunRequest):
            runnable = await self._published.find(Reference.read(request.model))
            return runnable.schema.input_link_paths
        if not wanted.model_parameters:
            return frozenset()
        model = self._catalog().with_slug(chain(wanted).plans[0].slug)
        return model.link_paths if model else frozenset()

    async def _planning(
        self, request: Any, modality: Modality
    ) -> tuple[Any, Callable[[Any], Awaitable[Callable[[Any], Candidates]]]]:
        """The request in our own words, and what checks it and then gives what plans it."""
        timeout = self._timeout(request.options, modality)
        if modality is not Modality.RAW:
            wanted = asked.model_request(request, modality, timeout)
            if form := wanted_form(wanted.parameters):
                await self._schemas.check_form(form, caller.current().tenant)
            return wanted, self._chain
        runnable = await self._published.find(Reference.read(request.model))
        await self._schemas.prepare(runnable.schema, caller.current().tenant)
        return asked.run_request(request, timeout), partial(self._run, runnable)

    async def _chain(self, _: Any) -> Callable[[Any], Candidates]:
        return self._catalog().candidates

    async def _run(self, runnable: Runnable, wanted: RunRequest) -> Callable[[Any], Candidates]:
        """What plans a run of any model, whose inputs are checked by its own schema."""
        problems = await self._schemas.input_problems(
            runnable.schema, inputs_of(wanted, runnable), caller.current().tenant
        )
        catalog = self._catalog()
        known, assumed = catalog.with_slug(runnable.model), catalog.assume_unknown

        def plan(wanted: RunRequest) -> Candidates:
            planned = plan_run(
                wanted,
                runnable,
                known,
                assumed,
                problems=problems,
                allow_weaker_safety=catalog.allow_weaker_safety,
            )
            return Candidates((planned,))

        return plan

    def _submission(self, request: Any, method: str, modality: Modality) -> Submission:
        options = request.options
        tenant = caller.current().tenant
        fingerprint, likeness = asked.fingerprint_and_likeness(
            self._generations.hash_key, method, request
        )
        return Submission(
            tenant=tenant,
            method=method,
            request_id=canonical_request_id(request.request_id),
            fingerprint=fingerprint,
            timeout=self._timeout(options, modality),
            cancel_on_leaving=options.on_disconnect != options_pb2.ON_DISCONNECT_DETACH,
            grace=_grace(options),
            labels=dict(options.labels),
            drawn=not request.request_id,
            webhook_url=options.webhook_url,
            request=stored_requests.write(request, self._store_inputs(tenant)),
            likeness=likeness,
            reuse_within=asked.seconds_of(options.reuse_within),
        )

    def _goes_next(self, options: options_pb2.GenerationOptions) -> bool:
        """Whether another model is sent while one is in doubt. Raises where that is not allowed."""
        if options.when_unconfirmed != options_pb2.WHEN_UNCONFIRMED_NEXT:
            return False
        if not self._allows_next(caller.current().tenant):
            raise ScopeMissing(
                "options.when_unconfirmed: NEXT may pay twice, and is not allowed here",
                metadata={"field": "options.when_unconfirmed"},
            )
        return True

    def _timeout(self, options: options_pb2.GenerationOptions, modality: Modality) -> float:
        if options.HasField("timeout"):
            return asked.seconds_of(options.timeout)
        return self._timeouts()[modality]


def _grace(options: options_pb2.GenerationOptions) -> float:
    if options.HasField("disconnect_grace"):
        return asked.seconds_of(options.disconnect_grace)
    return DISCONNECT_GRACE


def _work_of(route: Route, *, next_when_unconfirmed: bool) -> Work:
    """What a route sets going."""
    return Work.of(
        *route.candidates.plans,
        screening=route.screening,
        after_content_refusal=route.candidates.after_content_refusal,
        not_screened=route.not_screened,
        next_when_unconfirmed=next_when_unconfirmed,
    )


def asked_wait(request: Any) -> float | None:
    """Seconds of a request's `wait`; None where it has none."""
    return asked.seconds_of(request.wait) if request.HasField("wait") else None


def waiting_time(wait: float | None, context: Context) -> float | None:
    """Seconds to wait for the end, `wait` at the most; None: as long as it takes."""
    remaining = context.time_remaining()
    if remaining is None:
        return wait
    most = max(remaining - BEFORE_DEADLINE, 0.0)
    return most if wait is None else min(wait, most)


def report(record: Generation) -> None:
    """Tell metering and the access log which generation this rpc was about, and its cost."""
    settled = record.cost.nanos if record.state.is_terminal else None
    receipt.report(generation_id=record.id, model=record.model, cost_nanos=settled)
