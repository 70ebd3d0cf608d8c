"""Whether a webhook is Replicate's, and whose attempt it is about."""

import asyncio
import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate_server.upstream.port import NoResponse
from mediagate_server.upstream.replicate.webhook_verification import (
    SignatureHeaders,
    SignatureInvalid,
    WebhookSecrets,
    WebhookUrls,
    decode_webhook_secret,
)

# The example of the specification's authors.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
HEADERS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
NOW = 1_614_265_330.0


def signed(key: bytes, body: bytes, message_id: str = "msg_1", at: int = int(NOW)) -> str:
    """A signature made by the words of the specification."""
    content = f"{message_id}.{at}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def test_the_example_of_the_specification() -> None:
    """Theirs passes; any other body, id or time does not."""
    message = SignatureHeaders.parse(HEADERS, NOW)
    assert message.id == HEADERS["webhook-id"]
    assert message.is_signed_by([decode_webhook_secret(SECRET)], BODY)
    assert not message.is_signed_by([decode_webhook_secret(SECRET)], BODY + b" ")
    assert not message.is_signed_by([], BODY)
    for name, other in (("webhook-id", "msg_other"), ("webhook-timestamp", "1614265331")):
        assert not SignatureHeaders.parse({**HEADERS, name: other}, NOW).is_signed_by(
            [decode_webhook_secret(SECRET)], BODY
        )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in HEADERS for value in (None, "", " ", "é", "m\n", "m" * 257)),
        ("webhook-timestamp", "-1614265330"),
        ("webhook-timestamp", "1614265330.5"),
        ("webhook-timestamp", "٣"),
        ("webhook-signature", HEADERS["webhook-signature"].replace("v1", "v2")),
    ],
)
def test_missing_or_malformed_signature_headers(name: str, value: str | None) -> None:
    """Headers that are missing, empty or something else: nothing is computed for them."""
    headers = {**HEADERS, name: value or ""}
    if value is None:
        del headers[name]
    with pytest.raises(SignatureInvalid, match="unsigned"):
        SignatureHeaders.parse(headers, NOW)


@given(st.floats(-10_000, 10_000))
def test_the_timestamp_tolerance_is_five_minutes(apart: float) -> None:
    """In both directions: clocks differ, recordings are old."""
    if abs(apart) <= 300:
        SignatureHeaders.parse(HEADERS, NOW + apart)
    else:
        with pytest.raises(SignatureInvalid, match="stale"):
            SignatureHeaders.parse(HEADERS, NOW + apart)


def test_multiple_signatures_and_secrets() -> None:
    """While a secret is rotated both ends may know two."""
    old, new, other = b"o" * 24, b"n" * 24, b"x" * 24
    both = f"v1a,ignored {signed(old, BODY)} {signed(new, BODY)}"
    headers = {**HEADERS, "webhook-id": "msg_1", "webhook-signature": both}
    message = SignatureHeaders.parse(headers, NOW)
    assert message.is_signed_by([new], BODY)
    assert message.is_signed_by([other, old], BODY)
    assert not message.is_signed_by([other], BODY)


@given(st.text(max_size=64).map(str.encode), st.binary(min_size=1, max_size=64))
def test_a_signature_by_another_key_is_refused(body: bytes, key: bytes) -> None:
    """A signature under another key is nobody's."""
    headers = {**HEADERS, "webhook-id": "msg_1", "webhook-signature": signed(key, body)}
    message = SignatureHeaders.parse(headers, NOW)
    assert message.is_signed_by([key], body)
    assert not message.is_signed_by([key + b"0"], body)


@given(st.binary(max_size=64))
def test_non_ascii_signatures_are_refused(body: bytes) -> None:
    """It is refused, not failed on, whatever its signature."""
    try:
        body.decode()
    except UnicodeDecodeError:
        is_text = False
    else:
        is_text = True
    headers = {**HEADERS, "webhook-id": "msg_1", "webhook-signature": signed(b"k", body)}
    assert SignatureHeaders.parse(headers, NOW).is_signed_by([b"k"], body) is is_text


@pytest.mark.parametrize(
    "given", ["v1,", "v1,%%", "v1,a,b", "v1,=", f"v1,{'A' * 9999}", "v1,AA v1"]
)
def test_a_signature_in_another_encoding_is_not_an_error(given: str) -> None:
    """It is compared as it came, and decoded by nobody."""
    message = SignatureHeaders.parse({**HEADERS, "webhook-signature": given}, NOW)
    assert not message.is_signed_by([decode_webhook_secret(SECRET)], BODY)


@pytest.mark.parametrize("secret", ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_%%"])
def test_malformed_secrets_are_refused(secret: str) -> None:
    """It is refused, and not repeated."""
    with pytest.raises(ValueError, match="whsec_ and base64") as raised:
        decode_webhook_secret(secret)
    assert "%%" not in str(raised.value)


def test_a_webhook_url_is_bound_to_its_attempt() -> None:
    """Nobody can make the address of another attempt out of one that was seen."""
    addresses = WebhookUrls("https://gate.example/", b"k" * 32)
    url = addresses.url_for("att_1")
    assert url.startswith("https://gate.example/webhooks/replicate/att_1.")
    token = url.rpartition("/")[2]
    assert addresses.parse_attempt(token) == "att_1"
    for forged in ("att_2" + token[5:], token[:-1], token + "0", "att_1", "", "." + token, "é.x"):
        assert addresses.parse_attempt(forged) is None
    assert WebhookUrls("https://gate.example", b"l" * 32).parse_attempt(token) is None


class WebhookSecretAccount:
    """Upstream's answers about its secret."""

    def __init__(self) -> None:
        self.secret = SECRET
        self.call_count = 0
        self.answers = True
        self.seconds = 0.0

    async def fetch(self) -> str:
        self.call_count += 1
        await asyncio.sleep(0)
        if not self.answers:
            raise NoResponse("down")
        return self.secret

    def clock(self) -> float:
        return self.seconds

    def secrets(self, *configured: str) -> WebhookSecrets:
        return WebhookSecrets(self.fetch, lambda: configured, clock=self.clock, pause=0)


async def test_the_accounts_secret_is_fetched_once_a_minute() -> None:
    """However many webhooks come; and at the first of them."""
    account = WebhookSecretAccount()
    secrets = account.secrets()
    assert account.call_count == 0
    assert (
        await asyncio.gather(*(secrets.keys() for _ in range(9)))
        == [(decode_webhook_secret(SECRET),)] * 9
    )
    account.seconds = 60
    await secrets.keys()
    assert account.call_count == 1
    account.seconds = 61
    await secrets.keys()
    assert account.call_count == 2


async def test_a_rotated_secret_replaces_the_old_one() -> None:
    """Asked for when a signature is not known; those who ask meanwhile share one more answer."""
    account = WebhookSecretAccount()
    secrets = account.secrets()
    await secrets.keys()
    account.secret = "whsec_" + base64.b64encode(b"n" * 24).decode()
    assert await asyncio.gather(*(secrets.refresh() for _ in range(9))) == [(b"n" * 24,)] * 9
    assert account.call_count == 3


async def test_forged_webhooks_do_not_fetch_the_secret_each_time() -> None:
    """Those over the most that may wait get what is known."""
    account = WebhookSecretAccount()
    secrets = account.secrets()
    await secrets.keys()
    assert len(await asyncio.gather(*(secrets.refresh() for _ in range(500)))) == 500
    assert account.call_count == 3


async def test_an_upstream_that_does_not_return_its_secret() -> None:
    """What is known and what is configured goes on to count."""
    account = WebhookSecretAccount()
    secrets = account.secrets("whsec_" + base64.b64encode(b"c" * 24).decode())
    account.answers = False
    assert await secrets.keys() == (b"c" * 24,)
    account.answers = True
    assert await secrets.refresh() == (decode_webhook_secret(SECRET), b"c" * 24)
    account.answers = False
    assert await secrets.refresh() == (decode_webhook_secret(SECRET), b"c" * 24)
    account.answers, account.secret = True, "no secret"
    assert await secrets.refresh() == (decode_webhook_secret(SECRET), b"c" * 24)
