"""Endpoints of predictions: create by version, model or deployment; get, list, cancel."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web
from yarl import URL

from mediagate_sandbox.api_errors import bad_request, not_found
from mediagate_sandbox.bill import Bill
from mediagate_sandbox.clock import Clock, in_time
from mediagate_sandbox.create_requests import CreateRequestParser, Target
from mediagate_sandbox.examples import ExamplePredictions
from mediagate_sandbox.faults.http_faults import fired_faults
from mediagate_sandbox.faults.model_faults import apply_model_faults
from mediagate_sandbox.faults.run_faults import (
    answers_other_prediction,
    apply_run_faults,
    list_delay,
    price_factor,
)
from mediagate_sandbox.files import OutputFiles
from mediagate_sandbox.input_links import InputLinks
from mediagate_sandbox.json_response import respond_json
from mediagate_sandbox.middleware.auth import origin_of
from mediagate_sandbox.models import Catalog
from mediagate_sandbox.paging import page_json
from mediagate_sandbox.prediction_json import file_url, prediction_json
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
        parser: CreateRequestParser,
        store: Store,
        examples: ExamplePredictions,
        files: OutputFiles,
        links: InputLinks,
        runner: Runner,
        deliverer: WebhookDeliverer,
        request_log: RequestLog,
        bill: Bill,
    ) -> None:
        """Create the handlers."""
        self._settings = settings
        self._clock = clock
        self._catalog = catalog
        self._parser = parser
        self._store = store
        self._examples = examples
        self._files = files
        self._links = links
        self._runner = runner
        self._deliverer = deliverer
        self._request_log = request_log
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
        """`POST /v1/predictions`: create by the body's `version`."""
        return await self._create(request, self._parser_for(request), None)

    async def create_by_model(self, request: web.Request) -> web.Response:
        """`POST /v1/models/{owner}/{name}/predictions`: official models only."""
        parser = self._parser_for(request)
        return await self._create(request, parser, parser.official(_name(request)))

    async def create_by_deployment(self, request: web.Request) -> web.Response:
        """`POST /v1/deployments/{owner}/{name}/predictions`."""
        parser = self._parser_for(request)
        return await self._create(request, parser, parser.deployment(_name(request)))

    def _parser_for(self, request: web.Request) -> CreateRequestParser:
        """Return the parser with the catalog that faults give this request."""
        catalog = apply_model_faults(self._catalog, fired_faults())
        return self._parser if catalog is self._catalog else self._parser.with_catalog(catalog)

    async def _create(
        self, request: web.Request, parser: CreateRequestParser, target: Target | None
    ) -> web.Response:
        raw = await request.read()
        now = self._clock.now()
        prediction_request = parser.parse(raw, target, request.headers.get("Cancel-After"), now)
        prediction_request = self._links.resolve(
            prediction_request, origin_of(request, self._settings)
        )
        firings = fired_faults()
        prediction = Prediction(
            self._store.next_number(), apply_run_faults(prediction_request, firings), now
        )
        prediction.listed_at = now + list_delay(firings)
        for each in firings:
            each.prediction = prediction.id
        self._store.add(prediction)
        self._request_log.create(prediction, now)
        self._bill.open(prediction, price_factor(firings))
        self._subscribe(prediction, origin_of(request, self._settings))
        self._runner.start(prediction)
        wait = parse_prefer(request.headers.get("Prefer"))
        if wait is None:
            return respond_json(self._created(request, prediction), status=201)
        return await self._answer_when_done(request, prediction, wait)

    def _subscribe(self, prediction: Prediction, origin: str) -> None:
        """Subscribe the webhook; its URLs have the origin that the caller of the create used."""
        if prediction.request.webhook is not None:
            WebhookSubscription(
                prediction,
                prediction.request.webhook,
                lambda prediction: prediction_json(prediction, origin),
                self._deliverer,
                self._clock,
                self._settings.webhook_interval,
            )

    async def _answer_when_done(
        self, request: web.Request, prediction: Prediction, wait: PreferWait
    ) -> web.Response:
        """Respond when all output exists, or at the timeout."""
        in_full = await in_time(self._clock, wait.seconds, prediction.wait_for_output())
        document = self._created(request, prediction)
        if self._settings.inline_outputs and document["output"] is not None:
            await self._inline_files(document, prediction, origin_of(request, self._settings))
        return respond_json(
            document,
            status=201 if in_full else self._settings.late_answer_status,
            headers={"Preference-Applied": wait.applied},
        )

    async def _inline_files(
        self, document: dict[str, Any], prediction: Prediction, origin: str
    ) -> None:
        """Replace the links of a prediction's JSON by the files themselves."""
        text = orjson.dumps(document["output"])
        for number, recipe in enumerate(prediction.request.script.files):
            file = await self._files.read(recipe)
            link = orjson.dumps(file_url(prediction, number, origin))
            text = text.replace(link, orjson.dumps(file.data_uri(recipe)))
        document["output"] = orjson.loads(text)

    def _created(self, request: web.Request, prediction: Prediction) -> dict[str, Any]:
        """Return the response of a create: the prediction, or another one by a fault."""
        origin = origin_of(request, self._settings)
        document = prediction_json(prediction, origin, handed_over=True)
        if answers_other_prediction(fired_faults()):
            last = next(
                (e for e in self._store.newest_first() if e.number < prediction.number), None
            )
            if last is not None:
                other = prediction_json(last, origin)
                document |= {name: other[name] for name in ("id", "urls")}
        return document

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/predictions/{id}`: the prediction in its current state."""
        prediction = self._find(request)
        self._request_log.gets[prediction.id] += 1
        return respond_json(prediction_json(prediction, origin_of(request, self._settings)))

    async def list(self, request: web.Request) -> web.Response:
        """`GET /v1/predictions`: newest first; none is of source `web`."""
        query, origin = request.query, origin_of(request, self._settings)
        now = self._clock.now()
        if query.get("source") not in (None, "web"):
            raise bad_request("source must be web if it is given")
        after, before = (
            parse_query_time(query.get("created_after")),
            parse_query_time(query.get("created_before")),
        )
        matching = [
            each
            for each in self._store.newest_first()
            if query.get("source") is None
            and each.listed_at <= now
            and (after is None or each.created_at >= after)
            and (before is None or each.created_at < before)
        ]
        page = page_json(
            matching,
            lambda each: each.number,
            lambda each: prediction_json(each, origin),
            url=URL(origin).join(request.rel_url),
            size=self._settings.predictions_per_page,
        )
        return respond_json(page)

    async def cancel(self, request: web.Request) -> web.Response:
        """`POST /v1/predictions/{id}/cancel`: cancel at once; no effect on an ended one."""
        prediction = self._find(request)
        self._request_log.cancel(prediction, self._clock.now())
        self._runner.cancel(prediction)
        return respond_json(prediction_json(prediction, origin_of(request, self._settings)))

    def _find(self, request: web.Request) -> Prediction:
        prediction_id = request.match_info["id"]
        prediction = self._store.by_id(prediction_id) or self._examples.by_id(prediction_id)
        if prediction is None:
            raise not_found()
        return prediction


def _name(request: web.Request) -> str:
    return f"{request.match_info['owner']}/{request.match_info['name']}"
