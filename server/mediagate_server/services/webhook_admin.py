"""The part of AdminService that is about callers' webhooks: secrets, and what was not delivered."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from mediagate.v1 import admin_pb2
from mediagate_server.callbacks.sender import Sender
from mediagate_server.callbacks.signing import secret_text
from mediagate_server.config.tenants import Tenant
from mediagate_server.errors import NoSuch
from mediagate_server.services import paging
from mediagate_server.services.paging import PageTokens
from mediagate_server.services.paid import Context
from mediagate_server.store.outbox import Callback, Outbox

OVERLAP: Final = timedelta(hours=24)
"""For how long webhooks are signed with the secret before, too."""


class WebhookAdmin:
    """See admin.proto. `tenants` are all that there are."""

    def __init__(
        self,
        outbox: Outbox,
        sender: Sender,
        tokens: PageTokens,
        tenants: Callable[[], Sequence[Tenant]],
        now: Callable[[], datetime],
    ) -> None:
        self._outbox = outbox
        self._sender = sender
        self._tokens = tokens
        self._everybody = tenants
        self._time = now

    async def RotateWebhookSecret(
        self, request: admin_pb2.RotateWebhookSecretRequest, context: Context
    ) -> admin_pb2.RotateWebhookSecretResponse:
        """Makes a secret, and shows it this once."""
        self._check_tenant(request.tenant)
        now = self._time()
        rotated = await self._outbox.rotate_secret(request.tenant, now, now + OVERLAP)
        return admin_pb2.RotateWebhookSecretResponse(
            secret=secret_text(rotated.secret),
            previous_expire_time=_timestamp(rotated.previous_expires_at),
        )

    async def ListUndeliveredWebhooks(
        self, request: admin_pb2.ListUndeliveredWebhooksRequest, context: Context
    ) -> admin_pb2.ListUndeliveredWebhooksResponse:
        """Lists what was given up, oldest first."""
        if request.tenant:
            self._check_tenant(request.tenant)
        tokens = self._tokens.of_request("ListUndeliveredWebhooks", request.tenant)
        size = paging.page_size(request.page_size)
        after = tokens.read(request.page_token)
        start = after[0] if after else ""
        found = await self._outbox.undelivered(request.tenant, size + 1, start)
        page = found[:size]
        return admin_pb2.ListUndeliveredWebhooksResponse(
            webhooks=[_shown(callback) for callback in page],
            next_page_token=tokens.write([page[-1].id]) if found[size:] else "",
        )

    async def RedeliverWebhook(
        self, request: admin_pb2.RedeliverWebhookRequest, context: Context
    ) -> admin_pb2.RedeliverWebhookResponse:
        """Sends one of them again, now."""
        callback = await self._sender.redeliver(request.id)
        return admin_pb2.RedeliverWebhookResponse(webhook=_shown(callback))

    def _check_tenant(self, name: str) -> None:
        if all(tenant.id != name for tenant in self._everybody()):
            raise NoSuch("tenant", "tenant")


def _shown(callback: Callback) -> admin_pb2.UndeliveredWebhook:
    return admin_pb2.UndeliveredWebhook(
        id=callback.id,
        tenant=callback.tenant,
        generation_id=callback.generation_id,
        host=callback.host,
        tries=callback.tries,
        http_status=callback.http_status,
        last_try_time=_timestamp(callback.last_tried_at),
    )


def _timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
