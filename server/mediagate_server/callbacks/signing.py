"""Webhooks signed as Standard Webhooks: HMAC-SHA256 over `<id>.<timestamp>.<body>`."""

import base64
import hmac
from collections.abc import Sequence
from datetime import datetime


def signed_headers(
    callback_id: str, at: datetime, body: bytes, secrets: Sequence[bytes]
) -> dict[str, str]:
    """The headers of one try, with a signature by each secret: receivers take any that they know.

    `at` is when it is sent: receivers refuse what is older than a few minutes.
    """
    timestamp = str(int(at.timestamp()))
    signed = f"{callback_id}.{timestamp}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in secrets)
    return {
        "webhook-id": callback_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def secret_text(secret: bytes) -> str:
    """A secret as it is shown, and as every library of Standard Webhooks takes it."""
    return f"whsec_{base64.b64encode(secret).decode()}"
