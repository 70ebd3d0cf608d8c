"""Predictions: create by version, model or deployment; get, list, cancel."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from yarl import URL

from mediagate_sandbox.api_errors import bad_request, not_found
from mediagate_sandbox.bill import Bill
from mediagate_sandbox.clock import Clock, in_time
from mediagate_sandbox.create_requests import CreateRequestParser, Target
from mediagate_sandbox.faults.http_faults import record_fault
from mediagate_sandbox.faults.model_faults import apply_model_faults
from mediagate_sandbox.faults.run_faults import (
    answers_other_prediction,
    apply_run_faults,
    list_delay,
    price_factor,
)
from mediagate_sandbox.input_links import InputLinks
from mediagate_sandbox.json_response import respond_json
from mediagate_sandbox.middleware.auth import origin_of
from mediagate_sandbox.models import Catalog
from mediagate_sandbox.paging import page_json
from mediagate_sandbox.prediction_json import prediction_json
from mediagate_sandbox.predictions import Prediction
from mediagate_sandbox.prefer_headers import PreferWait, parse_prefer
from mediagate_sandbox.query_time import parse_query_time
from mediagate_sandbox.request_log import RequestLog
from mediagate_sandbox.runner import Runner
from mediagate_sandbox.settings import SandboxSettings
from mediagate_sandbox.store import Store
from mediagate_sandbox.webhook_delivery import WebhookDeliverer
from mediagate_sandbox.webhook_subscription import WebhookSubscription


class PredictionRoutes:
    """Handlers for everything under `/v1/predictions` and the other two ways to create."""

    def __init__(
        self,
        settings: SandboxSettings,
        clock: Clock,
        catalog: Catalog,
        desk: CreateRequestParser,
        store: Store,
        links: InputLinks,
        runner: Runner,
        deliveries: WebhookDeliverer,
        observations: RequestLog,
        bill: Bill,
    ) -> None:
        """Keep what the handlers need."""
        self._settings = settings
        self._clock = clock
        self._catalog = catalog
        self._desk = desk
        self._store = store
        self._links = links
        self._runner = runner
        self._deliveries = deliveries
        self._observations = observations
        self._bill = bill

    def routes(self) -> list[web.RouteDef]:
        """Paths and their handlers."""
        return [
            web.post("/v1/predictions", self.create),
            web.post("/v1/models/{owner}/{name}/predictions", self.create_by_model),
            web.post("/v1/deployments/{owner}/{name}/predictions", self.create_by_deployment),
            web.get("/v1/predictions", self.list),
            web.get("/v1/predictions/{id}", self.get),
            web.post("/v1/predictions/{id}/cancel", self.cancel),
        ]

    async def create(self, request: web.Request) -> web.Response:
        """`POST /v1/predictions`: the body's `version` says what to run."""
        return await self._create(request, self._desk_for(request), None)

    async def create_by_model(self, request: web.Request) -> web.Response:
        """`POST /v1/models/{owner}/{name}/predictions`: official models only."""
        desk = self._desk_for(request)
        return await self._create(request, desk, desk.official(_name(request)))

    async def create_by_deployment(self, request: web.Request) -> web.Response:
        """`POST /v1/deployments/{owner}/{name}/predictions`."""
        desk = self._desk_for(request)
        return await self._create(request, desk, desk.deployment(_name(request)))

    def _desk_for(self, request: web.Request) -> CreateRequestParser:
        """The desk, over the catalog as faults let this request see it."""
        catalog = apply_model_faults(self._catalog, record_fault())
        return self._desk if catalog is self._catalog else self._desk.with_log(catalog)

    async def _create(
        self, request: web.Request, desk: CreateRequestParser, target: Target | None
    ) -> web.Response:
        raw = await request.read()
        now = self._clock.now()
        order = desk.parse(raw, target, request.headers.get("Cancel-After"), now)
        order = self._links.resolve(order, origin_of(request, self._settings))
        firings = record_fault()
        prediction = Prediction(self._store.next_number(), apply_run_faults(order, firings), now)
        prediction.listed_at = now + list_delay(firings)
        for each in firings:
            each.prediction = prediction.id
        self._store.add(prediction)
        self._observations.create(prediction, now)
        self._bill.open(prediction, price_factor(firings))
        self._subscribe(prediction, origin_of(request, self._settings))
        self._runner.start(prediction)
        wait = parse_prefer(request.headers.get("Prefer"))
        if wait is None:
            return respond_json(self._created(request, prediction), status=201)
        return await self._answer_when_done(request, prediction, wait)

    def _subscribe(self, prediction: Prediction, origin: str) -> None:
        """Webhooks show URLs under the origin that the creating caller used."""
        if prediction.order.webhook is not None:
            WebhookSubscription(
                prediction,
                prediction.order.webhook,
                lambda shown: prediction_json(shown, origin),
                self._deliveries,
                self._clock,
                self._settings.webhook_interval,
            )

    async def _answer_when_done(
        self, request: web.Request, prediction: Prediction, wait: PreferWait
    ) -> web.Response:
        """Hold the answer back until all output is there, or time is up."""
        in_full = await in_time(self._clock, wait.seconds, prediction.wait_for_output())
        return respond_json(
            self._created(request, prediction),
            status=201 if in_full else self._settings.late_answer_status,
            headers={"Preference-Applied": wait.applied},
        )

    def _created(self, request: web.Request, prediction: Prediction) -> dict[str, Any]:
        """What a create answers: the prediction, unless a fault mistakes it for another."""
        origin = origin_of(request, self._settings)
        document = prediction_json(prediction, origin, handed_over=True)
        if answers_other_prediction(record_fault()):
            last = next(
                (e for e in self._store.newest_first() if e.number < prediction.number), None
            )
            if last is not None:
                other = prediction_json(last, origin)
                document |= {name: other[name] for name in ("id", "urls")}
        return document

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/predictions/{id}`: the prediction as it stands."""
        prediction = self._find(request)
        self._observations.gets[prediction.id] += 1
        return respond_json(prediction_json(prediction, origin_of(request, self._settings)))

    async def list(self, request: web.Request) -> web.Response:
        """`GET /v1/predictions`: newest first; nothing here was ever made on a web site."""
        query, origin = request.query, origin_of(request, self._settings)
        now = self._clock.now()
        if query.get("source") not in (None, "web"):
            raise bad_request("source must be web if it is given")
        after, before = (
            parse_query_time(query.get("created_after")),
            parse_query_time(query.get("created_before")),
        )
        found = [
            each
            for each in self._store.newest_first()
            if query.get("source") is None
            and each.listed_at <= now
            and (after is None or each.created_at >= after)
            and (before is None or each.created_at < before)
        ]
        page = page_json(
            found,
            lambda each: each.number,
            lambda each: prediction_json(each, origin),
            url=URL(origin).join(request.rel_url),
            size=self._settings.predictions_per_page,
        )
        return respond_json(page)

    async def cancel(self, request: web.Request) -> web.Response:
        """`POST /v1/predictions/{id}/cancel`: at once; one that has ended stays as it is."""
        prediction = self._find(request)
        self._observations.cancel(prediction, self._clock.now())
        self._runner.cancel(prediction)
        return respond_json(prediction_json(prediction, origin_of(request, self._settings)))

    def _find(self, request: web.Request) -> Prediction:
        prediction = self._store.by_id(request.match_info["id"])
        if prediction is None:
            raise not_found()
        return prediction


def _name(request: web.Request) -> str:
    return f"{request.match_info['owner']}/{request.match_info['name']}"
