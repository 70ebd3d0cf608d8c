"""Webhook verification: signatures of Standard Webhooks over the raw body.

    event = verify_webhook(body, headers, secret="whsec_...")
    if event.type == WebhookEventType.WEBHOOK_EVENT_TYPE_GENERATION_SUCCEEDED:
        print(event.generation.id)

An event may be delivered more than once, with the same `webhook-id`.
"""

import base64
import binascii
import hmac
import json
import re
import time
from collections.abc import Iterable, Mapping
from typing import Final

from google.protobuf import json_format

# What a generation's error may hold: proto JSON names its details by their types.
from google.rpc import error_details_pb2 as _  # noqa: F401

from mediagate.v1.webhook_pb2 import WebhookEvent
from mediagate_client.errors import InvalidRequest, WebhookNotVerified, local_invalid_request

_PREFIX: Final = "whsec_"
_VERSION: Final = "v1,"
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_MOST_SIGNATURES: Final = 16


def verify_webhook(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str | Iterable[str],
    *,
    tolerance: float = 300.0,
    now: float | None = None,
) -> WebhookEvent:
    """Verify the signature of a webhook and return its event.

    `body` is the raw body, not decoded and encoded again. `headers` may be written in any case.
    `secret` is what RotateWebhookSecret showed, "whsec_..."; several may be given. `tolerance` is
    how many seconds it may be old, or early; `now` is the time in Unix seconds.

    Raises WebhookNotVerified, and InvalidRequest where a `secret` is none.
    """
    keys = [_decode_secret(each) for each in ([secret] if isinstance(secret, str) else secret)]
    if not keys:
        raise local_invalid_request("secret", "none was given")
    raw = _encode(body) if isinstance(body, str) else bytes(body)
    lowercase = {str(name).lower(): value for name, value in headers.items()}
    webhook_id, timestamp = lowercase.get("webhook-id", ""), lowercase.get("webhook-timestamp", "")
    if not webhook_id or not _TIMESTAMP.fullmatch(timestamp):
        raise WebhookNotVerified("its headers are not those of a signed webhook")
    if abs((time.time() if now is None else now) - int(timestamp)) > tolerance:
        raise WebhookNotVerified("it was not signed now")
    signed = _encode(f"{webhook_id}.{timestamp}.") + raw
    signatures = lowercase.get("webhook-signature", "").split(" ")[:_MOST_SIGNATURES]
    if not _has_valid_signature(signed, signatures, keys):
        raise WebhookNotVerified("no secret that is known signed it")
    try:
        document = json.loads(raw)
        if isinstance(document, dict):
            return json_format.ParseDict(document, WebhookEvent(), ignore_unknown_fields=True)
    except (json_format.ParseError, ValueError, RecursionError):
        pass
    raise WebhookNotVerified("it is signed, and is no event")


def _has_valid_signature(signed: bytes, signatures: list[str], keys: list[bytes]) -> bool:
    """Whether one of the keys signed it. All are compared, in constant time."""
    is_valid = False
    for key in keys:
        mac = base64.b64encode(hmac.digest(key, signed, "sha256"))
        for signature in signatures:
            if signature.startswith(_VERSION):
                is_valid |= hmac.compare_digest(mac, _encode(signature.removeprefix(_VERSION)))
    return is_valid


def _encode(text: str) -> bytes:
    """Encode as UTF-8. HTTP servers give invalid header bytes as surrogates: not signed."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise WebhookNotVerified("it holds bytes that are no text") from None


def _decode_secret(secret: str) -> bytes:
    """Decode the key of a secret. Raises InvalidRequest, whose message does not contain it."""
    if not isinstance(secret, str):
        raise _invalid_secret()
    encoded = secret.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if encoded == secret or not key:
        raise _invalid_secret()
    return key


def _invalid_secret() -> InvalidRequest:
    return local_invalid_request("secret", f"a webhook secret is {_PREFIX} and base64")
