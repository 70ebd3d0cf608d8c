"""What is kept only while a generation runs, and never in clear."""

import stat
from datetime import timedelta
from pathlib import Path

import pytest

from mediagate_server.store.encryption import Cipher, DecryptionFailed, EncryptionKeyError
from mediagate_server.store.records import Checkpoint, State
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.structs import replace
from tests.store.records import NOON, advance, generation_record, reservation

SECRET = "a lighthouse that nobody may read of"


async def test_pending_inputs_survive_a_restart_and_end_with_the_generation(
    tmp_path: Path,
) -> None:
    """A later process can send what is queued; what has ended has no input any more."""
    first = generation_record("a")
    async with SqliteStore(tmp_path) as store:
        await store.accept(first, reservation(first), 0, pending=SECRET.encode())
        await store.accept(generation_record("b"), reservation(generation_record("b")), 0)
        await store.save(advance(first, State.QUEUED))
    async with SqliteStore(tmp_path) as store:
        assert await store.pending_input("gen_a") == SECRET.encode()
        assert await store.pending_input("gen_b") is None
        assert await store.pending_input("gen_none") is None
        await store.save(replace(first, version=3, state=State.FAILED))
        assert await store.pending_input("gen_a") is None


async def test_checkpoints_are_contiguous_and_end_with_the_generation(
    store: SqliteStore,
) -> None:
    """In order, up to the first gap; a piece that comes after the end is not kept."""
    first = generation_record("a")
    await store.accept(first, reservation(first), 0)
    pieces = (Checkpoint(0, 3, "7:0", "été"[:2]), Checkpoint(3, 9, "8:0", "six-en"))
    for piece in (*pieces, Checkpoint(10, 12, "9:0", "no")):
        store.save_checkpoint(first.id, piece)
    await store.save_checkpoint("gen_none", pieces[0])
    assert (await store.resumptions((first.id,)))[first.id].checkpoints == pieces
    over = (Checkpoint(9, 11, "8:5", "go"), Checkpoint(11, 14, "9:1", " on"))
    for piece in over:
        store.save_checkpoint(first.id, piece)
    await store.save_checkpoint(first.id, over[-1])
    assert (await store.resumptions((first.id,)))[first.id].checkpoints == (*pieces, *over)
    ended = store.save(advance(first, State.SUCCEEDED))
    await store.save_checkpoint(first.id, Checkpoint(14, 15, "", "x"))
    await ended
    assert (await store.resumptions((first.id,)))[first.id].checkpoints == ()


async def test_prompts_and_texts_are_encrypted_on_disk(tmp_path: Path) -> None:
    """Not in the database, not in its log, not in the key's file, not beside them."""
    first = generation_record("a")
    folder = tmp_path / "data"
    async with SqliteStore(folder) as store:
        await store.accept(first, reservation(first), 0, pending=SECRET.encode())
        await store.save_checkpoint(first.id, Checkpoint(0, 9, "1:0", SECRET))
        key = await store.secret_key("webhook-url")
        written = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {"mediagate.sqlite3", "mediagate.sqlite3-wal", "sealing.key"} <= written.keys()
    for name, content in written.items():
        assert SECRET.encode() not in content, name
        assert SECRET[2:20].encode() not in content, name
        assert key not in content, name
    assert stat.S_IMODE((folder / "sealing.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_secret_keys_are_generated_once(tmp_path: Path) -> None:
    """One for each name, the same after a restart."""
    async with SqliteStore(tmp_path) as store:
        first = await store.secret_key("a"), await store.secret_key("b")
        assert await store.secret_key("a") == first[0]
    async with SqliteStore(tmp_path) as store:
        assert (await store.secret_key("a"), await store.secret_key("b")) == first
    assert len(set(first)) == 2
    assert {len(key) for key in first} == {32}


async def test_a_webhook_is_claimed_once_for_a_day(tmp_path: Path) -> None:
    """Across restarts; after more than a day its id is forgotten, not before."""
    async with SqliteStore(tmp_path) as store:
        assert not await store.has_webhook("msg_1")
        assert await store.claim_webhook("msg_1", NOON)
        assert await store.has_webhook("msg_1")
        assert not await store.claim_webhook("msg_1", NOON)
    async with SqliteStore(tmp_path) as store:
        assert not await store.claim_webhook("msg_1", NOON + timedelta(hours=24))
        assert await store.claim_webhook("msg_2", NOON + timedelta(hours=24))
        assert await store.claim_webhook("msg_1", NOON + timedelta(hours=26))
        assert not await store.claim_webhook("msg_2", NOON + timedelta(hours=26))


def test_sealed_values_open_only_in_their_own_context() -> None:
    """Nothing can be moved to another generation, cut or changed."""
    seal = Cipher(bytes(32))
    sealed = seal.encrypt(b"text", "pending gen_a")
    assert seal.decrypt(sealed, "pending gen_a") == b"text"
    assert seal.encrypt(b"text", "pending gen_a") != sealed
    changed = bytes([sealed[0], sealed[1] ^ 1]) + sealed[2:]
    for wrong, about in (
        (sealed, "pending gen_b"),
        (changed, "pending gen_a"),
        (sealed[:-1], "pending gen_a"),
        (b"", "pending gen_a"),
    ):
        with pytest.raises(DecryptionFailed):
            seal.decrypt(wrong, about)
    with pytest.raises(DecryptionFailed):
        Cipher(b"1" * 32).decrypt(sealed, "pending gen_a")


def test_an_invalid_key_file_is_named(tmp_path: Path) -> None:
    """Better not to start than to seal with what somebody can guess."""
    path = tmp_path / "sealing.key"
    path.write_bytes(b"short")
    with pytest.raises(EncryptionKeyError, match=r"sealing\.key"):
        Cipher.of_file(path)
