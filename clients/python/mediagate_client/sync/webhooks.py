# Generated from aio/webhooks.py by `make generate`. Do not edit.
"""What admins do about webhooks, blocking."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from mediagate.v1.admin_pb2 import (
    ListUndeliveredWebhooksRequest,
    RedeliverWebhookRequest,
    RotateWebhookSecretRequest,
    RotateWebhookSecretResponse,
    UndeliveredWebhook,
)
from mediagate.v1.admin_pb2_grpc import AdminServiceStub
from mediagate_client.channel import Channels
from mediagate_client.sync.calls import Calls
from mediagate_client.sync.usage import UsageCalls


class WebhookCalls(UsageCalls):
    """The part of a client that is for admins. How webhooks are verified: webhooks.py."""

    def __init__(self, calls: Calls, channels: Channels[grpc.Channel], read_timeout: float) -> None:
        """Use the channels; `read_timeout` bounds each call, in seconds."""
        super().__init__(calls, channels, read_timeout)
        self._admin = AdminServiceStub(channels.control)

    def rotate_webhook_secret(self, tenant: str = "local") -> RotateWebhookSecretResponse:
        """Make the first or a new secret for a tenant's webhooks; it is shown this once."""
        request = RotateWebhookSecretRequest(tenant=tenant)
        method = self._admin.RotateWebhookSecret
        return self._calls.once(method, request, self._read_timeout)

    def undelivered_webhooks(
        self, tenant: str = "", *, page_size: int = 0
    ) -> Iterator[UndeliveredWebhook]:
        """Iterate over the webhooks that were given up, oldest first; of a tenant, or of all."""
        request = ListUndeliveredWebhooksRequest(tenant=tenant, page_size=page_size)
        method = self._admin.ListUndeliveredWebhooks
        while True:
            page = self._calls.read(method, request, self._read_timeout)
            for webhook in page.webhooks:
                yield webhook
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def redeliver_webhook(self, webhook_id: str) -> UndeliveredWebhook:
        """Send one of them again, now; return it with the new try counted."""
        request = RedeliverWebhookRequest(id=webhook_id)
        method = self._admin.RedeliverWebhook
        response = self._calls.once(method, request, self._read_timeout)
        return response.webhook
