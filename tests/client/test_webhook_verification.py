"""verify_webhook: what a server signed is an event, and nothing else is."""

import base64
import hmac
from typing import Any

import pytest
import standardwebhooks

from mediagate.v1.webhook_pb2 import WebhookEventType
from mediagate_client import InvalidRequest, WebhookNotVerified, verify_webhook
from mediagate_server.webhooks.http_client import format_secret, signed_headers
from tests.store.records import NOON

KEY, OLD = b"k" * 32, b"o" * 32
SECRET = format_secret(KEY)
BODY = (
    b'{"type":"WEBHOOK_EVENT_TYPE_GENERATION_FAILED","generation":{"id":"gen_1","error":{"code":3,'
    b'"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"X"}]}},"new":1}'
)
NOW = NOON.timestamp()


def verified(body: bytes | str = BODY, **changes: Any) -> str:
    """The id of the generation in a webhook that was signed now, but for the changes."""
    headers = {**signed_headers("evt_1", NOON, BODY, (KEY,)), **changes.pop("headers", {})}
    arguments = {"secret": SECRET, "now": NOW, **changes}
    return verify_webhook(body, headers, **arguments).generation.id


def test_webhooks_signed_by_the_server() -> None:
    """The typed event, details of errors in it; fields of a later contract are passed over."""
    event = verify_webhook(BODY, signed_headers("evt_1", NOON, BODY, (KEY,)), SECRET, now=NOW)
    assert event.type == WebhookEventType.WEBHOOK_EVENT_TYPE_GENERATION_FAILED
    assert event.generation.error.details
    assert verified(BODY.decode()) == "gen_1"
    assert verified(bytearray(BODY)) == "gen_1"  # type: ignore[arg-type]


def test_webhooks_signed_by_another_library() -> None:
    """The scheme is the standard's, not ours."""
    signature = standardwebhooks.Webhook(SECRET).sign("msg_1", NOON, BODY.decode())
    headers = {"Webhook-Id": "msg_1", "WEBHOOK-TIMESTAMP": str(int(NOW))}
    event = verify_webhook(BODY, {**headers, "Webhook-Signature": signature}, SECRET, now=NOW)
    assert event.generation.id == "gen_1"


@pytest.mark.parametrize("secret", [SECRET, [format_secret(OLD), SECRET], (SECRET,)])
def test_while_secrets_are_rotated(secret: Any) -> None:
    """Two signatures, two secrets: one pair is enough."""
    both = signed_headers("evt_1", NOON, BODY, (OLD, KEY))
    assert verified(secret=secret, headers=both) == "gen_1"


@pytest.mark.parametrize(
    "headers",
    [
        {"webhook-id": "evt_2"},
        {"webhook-id": ""},
        {"webhook-timestamp": str(int(NOW) + 1)},
        {"webhook-timestamp": "now"},
        {"webhook-timestamp": "\u0661\u0662"},
        {"webhook-timestamp": ""},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,\u00e4"},
        {"webhook-signature": "v1,\udce4"},
        {"webhook-id": "evt_\udce4"},
        {"webhook-timestamp": f"{int(NOW)}\udce4"},
        {"webhook-signature": "v1a," + base64.b64encode(b"x" * 32).decode()},
        {"webhook-signature": " ".join(["v1,AAAA"] * 1_000)},
        signed_headers("evt_1", NOON, BODY, (OLD,)),
    ],
)
def test_other_headers(headers: dict[str, str]) -> None:
    """One letter is enough."""
    with pytest.raises(WebhookNotVerified):
        verified(headers=headers)


@pytest.mark.parametrize("now", [NOW - 301, NOW + 302])
def test_old_timestamps_are_refused(now: float) -> None:
    """Five minutes, as everywhere."""
    with pytest.raises(WebhookNotVerified):
        verified(now=now)
    assert verified(now=now, tolerance=600) == "gen_1"


def test_another_body() -> None:
    """Also one that is the same JSON."""
    with pytest.raises(WebhookNotVerified):
        verified(BODY.replace(b":3", b": 3"))
    with pytest.raises(WebhookNotVerified):
        verified(BODY.decode() + "\udce4")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"\xff", b'{"generation":[7]}', b"null", b"[" * 99_999]
)
def test_signed_bodies_that_are_no_event(body: bytes) -> None:
    """A typed error still. Signed by hand: no server signs what is no text."""
    mac = hmac.digest(KEY, f"evt_1.{NOW:.0f}.".encode() + body, "sha256")
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": f"{NOW:.0f}",
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }
    with pytest.raises(WebhookNotVerified, match="no event"):
        verify_webhook(body, headers, SECRET, now=NOW)


@pytest.mark.parametrize("secret", ["", "whsec_", "abc", "whsec_%%%", [], "WHSEC_aaaa"])
def test_no_secret(secret: Any) -> None:
    """A mistake of the receiver's own, told as such, without its words."""
    with pytest.raises(InvalidRequest, match="secret") as raised:
        verified(secret=secret)
    assert "%%%" not in str(raised.value)
