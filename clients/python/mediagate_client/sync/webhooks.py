# Generated from aio/webhooks.py by `make generate`. Do not edit.
"""Calls of AdminService for webhooks, blocking."""

from __future__ import annotations

from collections.abc import Iterator

from mediagate.v1.admin_pb2 import (
    ListUndeliveredWebhooksRequest,
    RedeliverWebhookRequest,
    RotateWebhookSecretRequest,
    RotateWebhookSecretResponse,
    UndeliveredWebhook,
)
from mediagate_client.conversion import build
from mediagate_client.sync.usage import UsageCalls


class WebhookCalls(UsageCalls):
    """Part of the client: webhooks, for admins. Verification: webhook_verification.py."""

    def rotate_webhook_secret(self, tenant: str = "local") -> RotateWebhookSecretResponse:
        """Create a signing secret for a tenant's webhooks; it is shown only once."""
        request = build(RotateWebhookSecretRequest, tenant=tenant)
        method = self._stubs.admin.RotateWebhookSecret
        return self._calls.call_once(method, request, self._read_timeout)

    def undelivered_webhooks(
        self, tenant: str = "", *, page_size: int = 0
    ) -> Iterator[UndeliveredWebhook]:
        """Iterate over webhooks whose delivery was given up, oldest first; default: all tenants."""
        request = build(ListUndeliveredWebhooksRequest, tenant=tenant, page_size=page_size)
        method = self._stubs.admin.ListUndeliveredWebhooks
        while True:
            page = self._calls.read(method, request, self._read_timeout)
            for webhook in page.webhooks:
                yield webhook
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def redeliver_webhook(self, webhook_id: str) -> UndeliveredWebhook:
        """Send an undelivered webhook again, now; return it with the attempt counted."""
        request = build(RedeliverWebhookRequest, id=webhook_id)
        method = self._stubs.admin.RedeliverWebhook
        response = self._calls.call_once(method, request, self._read_timeout)
        return response.webhook
