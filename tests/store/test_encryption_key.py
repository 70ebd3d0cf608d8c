"""A sealing key that is lost, or another: the store does not open, unless an operator says so."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mediagate_server.store.encryption import DecryptionFailed, EncryptionKeyError
from mediagate_server.store.records import Checkpoint
from mediagate_server.store.sqlite import SqliteStore

from .records import NOON, generation_record, reservation

FIRST = generation_record("a")
SPOIL = "UPDATE secrets SET sealed = x'00'"


async def written(folder: Path) -> bytes:
    """A store with something of each kind that is sealed; one of its secret keys."""
    async with SqliteStore(folder) as store:
        await store.accept(FIRST, reservation(FIRST), 0, pending=b"x")
        await store.save_checkpoint(FIRST.id, Checkpoint(0, 1, "", "x"))
        await store.secret_key("media-url")
        return await store.secret_key("webhook-url")


def lose(key: Path) -> None:
    """It was not in the backup."""
    key.unlink()


def take_anothers(key: Path) -> None:
    """It is that of another folder."""
    key.write_bytes(bytes(32))


def damage(key: Path) -> None:
    """A bit has turned over."""
    content = key.read_bytes()
    key.write_bytes(bytes([content[0] ^ 1]) + content[1:])


@pytest.mark.parametrize("harm", [lose, take_anothers, damage])
async def test_a_store_does_not_open_without_its_encryption_key(
    harm: object, tmp_path: Path
) -> None:
    """It says which file, what is at stake and the way out; the key put back, all is there."""
    before = await written(tmp_path)
    key = tmp_path / "sealing.key"
    saved = key.read_bytes()
    assert callable(harm)
    harm(key)
    left = key.read_bytes() if key.exists() else None
    for _ in range(2):
        with pytest.raises(EncryptionKeyError) as refused:
            async with SqliteStore(tmp_path):
                pass
        assert str(key) in str(refused.value)
        assert f"{key}.lost" in str(refused.value)
        assert (key.read_bytes() if key.exists() else None) == left
    key.write_bytes(saved)
    async with SqliteStore(tmp_path) as store:
        assert await store.secret_key("webhook-url") == before
        assert await store.pending_input(FIRST.id) == b"x"


@pytest.mark.parametrize("harm", [lose, take_anothers])
async def test_discarding_sealed_data_applies_to_one_loss_of_the_key(
    harm: object, tmp_path: Path
) -> None:
    """Inputs and texts count as not kept, secret keys are drawn anew; the next loss is refused."""
    before = await written(tmp_path)
    key, lost = tmp_path / "sealing.key", tmp_path / "sealing.key.lost"
    assert callable(harm)
    harm(key)
    lost.touch()
    with capture_logs() as logs:
        async with SqliteStore(tmp_path) as store:
            assert await store.pending_input(FIRST.id) is None
            assert (await store.resumptions((FIRST.id,)))[FIRST.id].checkpoints == ()
            after = await store.secret_key("webhook-url")
    assert after != before
    (event,) = [line for line in logs if line["event"] == "encryption_key_replaced"]
    assert sorted(event["redrawn"]) == ["media-url", "webhook-url"]
    assert not lost.exists()
    async with SqliteStore(tmp_path) as store:
        assert await store.secret_key("webhook-url") == after
    lose(key)
    with pytest.raises(EncryptionKeyError):
        async with SqliteStore(tmp_path):
            pass


async def test_discarding_does_nothing_while_the_key_is_present(tmp_path: Path) -> None:
    """The key is there and opens all."""
    before = await written(tmp_path)
    (tmp_path / "sealing.key.lost").touch()
    async with SqliteStore(tmp_path) as store:
        assert await store.secret_key("webhook-url") == before
        assert await store.pending_input(FIRST.id) == b"x"


@pytest.mark.parametrize("kind", ["a secret key", "a request", "a text", "a webhook's secret"])
async def test_any_sealed_value_requires_the_key(kind: str, tmp_path: Path) -> None:
    """Whatever it is, it cannot be read without the key that it was sealed with."""
    async with SqliteStore(tmp_path) as store:
        if kind == "a secret key":
            await store.secret_key("media-url")
        elif kind == "a webhook's secret":
            await store.outbox.get_or_create_secrets("local", NOON)
        else:
            pending = b"x" if kind == "a request" else None
            await store.accept(FIRST, reservation(FIRST), 0, pending=pending)
        if kind == "a text":
            await store.save_checkpoint(FIRST.id, Checkpoint(0, 1, "", "x"))
    lose(tmp_path / "sealing.key")
    with pytest.raises(EncryptionKeyError):
        async with SqliteStore(tmp_path):
            pass


async def test_a_store_without_sealed_data_creates_a_key(tmp_path: Path) -> None:
    """As in its first start, which may have ended right after it was made."""
    async with SqliteStore(tmp_path):
        pass
    lose(tmp_path / "sealing.key")
    async with SqliteStore(tmp_path) as store:
        assert len(await store.secret_key("webhook-url")) == 32


async def test_a_damaged_secret_is_not_replaced_at_run_time(tmp_path: Path) -> None:
    """What was made with the old one would be void without a word."""
    async with SqliteStore(tmp_path) as store:
        await store.secret_key("webhook-url")
        await store._writer.submit(lambda c: len(c.execute(SPOIL).fetchall()))
        with pytest.raises(DecryptionFailed):
            await store.secret_key("webhook-url")
