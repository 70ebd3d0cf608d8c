"""Control endpoints that delete or change predictions, for tests of reconciliation."""

from __future__ import annotations

import orjson
from aiohttp import web

from mediagate_sandbox.api_errors import bad_request, not_found
from mediagate_sandbox.json_response import respond_json
from mediagate_sandbox.predictions import Prediction
from mediagate_sandbox.store import Store


class PredictionEditRoutes:
    """Handlers for `/sandbox/predictions/{id}`. The bill is left as it is."""

    def __init__(self, store: Store) -> None:
        """Create the handlers."""
        self._store = store

    def routes(self) -> list[web.RouteDef]:
        """Paths and their handlers."""
        return [
            web.delete("/sandbox/predictions/{id}", self.forget),
            web.post("/sandbox/predictions/{id}", self.amend),
        ]

    async def forget(self, request: web.Request) -> web.Response:
        """`DELETE /sandbox/predictions/{id}`: delete it without a trace in the API."""
        prediction = self._ended(request)
        self._store.forget(prediction)
        return respond_json({})

    async def amend(self, request: web.Request) -> web.Response:
        """`POST /sandbox/predictions/{id}`: change its metrics.

        Body: `{"metrics": {"predict_time": 2.5}}`; those not named stay, null takes one away.
        """
        prediction = self._ended(request)
        try:
            body = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            raise bad_request("The request body is not valid JSON.") from None
        changes = body.get("metrics") if isinstance(body, dict) else None
        if not isinstance(changes, dict) or set(body) != {"metrics"}:
            raise bad_request("The body takes metrics, an object.")
        metrics = {**(prediction.metrics or {}), **changes}
        prediction.amend({name: value for name, value in metrics.items() if value is not None})
        return respond_json({"metrics": prediction.metrics})

    def _ended(self, request: web.Request) -> Prediction:
        prediction = self._store.by_id(request.match_info["id"])
        if prediction is None:
            raise not_found()
        if not prediction.ended:
            raise bad_request("The prediction still runs.")
        return prediction
