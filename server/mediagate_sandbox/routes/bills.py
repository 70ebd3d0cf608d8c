"""Endpoint of the bill. Replicate has no such endpoint."""

from __future__ import annotations

from aiohttp import web

from mediagate_sandbox.bill import Bill
from mediagate_sandbox.json_response import respond_json
from mediagate_sandbox.query_time import parse_query_time


class BillRoutes:
    """Handler for `/sandbox/bill`."""

    def __init__(self, bill: Bill) -> None:
        """Create the handler."""
        self._bill = bill

    def routes(self) -> list[web.RouteDef]:
        """Paths and their handlers."""
        return [web.get("/sandbox/bill", self.read)]

    async def read(self, request: web.Request) -> web.Response:
        """`GET /sandbox/bill`: total and entries.

        The query may say `since` (ISO 8601: accepted then or later) and `model` (`owner/name`).
        """
        since = parse_query_time(request.query.get("since"))
        return respond_json(self._bill.document(since, request.query.get("model")))
