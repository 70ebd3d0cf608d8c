"""Secrets: drawn when needed, shown once, rotated with an overlap."""

from datetime import timedelta
from pathlib import Path

import pytest
import standardwebhooks

from mediagate_server.runtime.clock import SystemClock
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.webhooks.http_client import format_secret, signed_headers
from tests.store.records import NOON

DAY = timedelta(days=1)


async def test_the_first_secret_returned_signed_earlier_webhooks(store: SqliteStore) -> None:
    """What was sent before anybody asked can be verified afterwards; the next is another."""
    (secret,) = await store.outbox.get_or_create_secrets("acme", NOON)
    assert (secret,) == await store.outbox.get_or_create_secrets("acme", NOON)
    first = await store.outbox.rotate_secret("acme", NOON, NOON + DAY)
    assert (first.secret, first.previous_expires_at) == (secret, None)
    second = await store.outbox.rotate_secret("acme", NOON, NOON + DAY)
    assert second.secret != first.secret
    assert second.previous_expires_at == NOON + DAY


async def test_the_previous_secret_stays_valid_for_a_while(
    store: SqliteStore, tmp_path: Path
) -> None:
    """Webhooks are signed with both, then with the newest alone; restarts change nothing."""
    first = await store.outbox.rotate_secret("acme", NOON, NOON + DAY)
    second = await store.outbox.rotate_secret("acme", NOON, NOON + DAY)
    both = (second.secret, first.secret)
    assert await store.outbox.get_or_create_secrets("acme", NOON) == both
    assert await store.outbox.get_or_create_secrets("acme", NOON + DAY) == (second.secret,)
    third = await store.outbox.rotate_secret("acme", NOON + DAY, NOON + 2 * DAY)
    assert await store.outbox.get_or_create_secrets("acme", NOON + DAY) == (
        third.secret,
        second.secret,
    )


async def test_each_tenant_has_its_own_secret(store: SqliteStore) -> None:
    """Each has its own."""
    assert await store.outbox.get_or_create_secrets(
        "a", NOON
    ) != await store.outbox.get_or_create_secrets("b", NOON)


async def test_secrets_are_encrypted_on_disk(store: SqliteStore, tmp_path: Path) -> None:
    """Sealed, as everything is that must not be seen in a copy of the database."""
    rotated = await store.outbox.rotate_secret("acme", NOON, NOON + DAY)
    files = [file for file in (tmp_path / "data").iterdir() if file.is_file()]
    assert files
    assert not any(rotated.secret in file.read_bytes() for file in files)


@pytest.mark.parametrize("secret_index", [0, 1])
def test_either_secret_verifies(secret_index: int) -> None:
    """By the library of the standard, while there are two; a third does not."""
    secrets = (b"n" * 32, b"o" * 32)
    body = '{"type":"ä"}'.encode()
    headers = signed_headers("evt_1", SystemClock().now(), body, secrets)
    theirs = standardwebhooks.Webhook(format_secret(secrets[secret_index]))
    assert theirs.verify(body, headers) == {"type": "ä"}
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(format_secret(b"x" * 32)).verify(body, headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        theirs.verify(body + b" ", headers)
