"""Standard Webhooks: signatures of the webhooks that are sent, by the library of the standard."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook


def signed_headers(
    callback_id: str, at: datetime, body: bytes, secrets: Sequence[bytes]
) -> dict[str, str]:
    """The headers of one try, with a signature by each secret: receivers take any that they know.

    `at` is when it is sent: receivers refuse what is older than a few minutes. `body` is UTF-8.
    """
    text, at = body.decode(), at.astimezone(UTC)  # The library takes any zone for UTC.
    return {
        "webhook-id": callback_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(
            Webhook(secret).sign(callback_id, at, text) for secret in secrets
        ),
    }


def secret_text(secret: bytes) -> str:
    """A secret as it is shown, and as every library of Standard Webhooks takes it."""
    return f"whsec_{base64.b64encode(secret).decode()}"
