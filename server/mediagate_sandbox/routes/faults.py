"""Endpoints of the fault plan: replace, read, stop."""

from __future__ import annotations

import orjson
from aiohttp import web

from mediagate_sandbox.api_errors import ApiError, InvalidField, bad_request
from mediagate_sandbox.faults.engine import FaultEngine
from mediagate_sandbox.faults.plan_parser import FaultPlanError, parse_plan
from mediagate_sandbox.json_response import respond_json


class FaultRoutes:
    """Handlers for `/sandbox/faults`."""

    def __init__(self, engine: FaultEngine) -> None:
        """Create the handlers."""
        self._engine = engine

    def routes(self) -> list[web.RouteDef]:
        """Paths and their handlers."""
        return [
            web.get("/sandbox/faults", self.read),
            web.post("/sandbox/faults", self.give),
            web.delete("/sandbox/faults", self.stop),
        ]

    async def read(self, request: web.Request) -> web.Response:
        """`GET /sandbox/faults`: seed, plan with counts, and fired faults in order."""
        return respond_json(self._engine.document())

    async def give(self, request: web.Request) -> web.Response:
        """`POST /sandbox/faults`: replace the plan and clear the fired faults.

        Body: `{"seed": 7, "faults": [{"do": "throttle", "on": "create", "times": 2}]}`. A plan that
        makes no sense is a 422 that names the field, and changes nothing.
        """
        try:
            plan = parse_plan(orjson.loads(await request.read()))
        except orjson.JSONDecodeError:
            raise bad_request("The request body is not valid JSON.") from None
        except FaultPlanError as error:
            field = InvalidField("invalid", error.field, error.reason)
            raise ApiError(
                422, str(error), title="Invalid fault plan", invalid_fields=[field]
            ) from None
        self._engine.load_plan(plan)
        return respond_json(self._engine.document())

    async def stop(self, request: web.Request) -> web.Response:
        """`DELETE /sandbox/faults`: deactivate all faults; the fired ones stay readable."""
        self._engine.stop()
        return respond_json(self._engine.document())
