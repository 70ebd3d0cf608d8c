"""Names that rise with time, never repeat, and are what they say they are."""

import os
import threading
import time
from uuid import RFC_4122, UUID

import pytest

from mediagate_server.runtime import identifiers


def test_a_token_starts_with_the_time() -> None:
    before = time.time_ns() // 1_000_000
    token = identifiers.new_token()
    after = time.time_ns() // 1_000_000
    assert len(token) == 32
    assert before <= int(token[:12], 16) <= after


def test_uuids_are_version_7() -> None:
    before = time.time_ns() // 1_000_000
    text = identifiers.new_uuid()
    uuid = UUID(text)
    assert (uuid.version, uuid.variant) == (7, RFC_4122)
    assert before <= uuid.int >> 80 <= time.time_ns() // 1_000_000
    assert str(uuid) == text


def test_identifiers_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1_800_000_000_000_000_000, 1_800_000_001_000_000_000, 1_000_000))
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    tokens = [identifiers.new_token() for _ in range(400)]
    uuids = [identifiers.new_uuid() for _ in range(400)]
    assert tokens == sorted(tokens)
    assert uuids == sorted(uuids)


def test_every_random_bit_varies() -> None:
    """Over a thousand names no bit of chance stands still."""
    tokens = [int(identifiers.new_token()[12:], 16) for _ in range(1_000)]
    uuids = [UUID(identifiers.new_uuid()).int for _ in range(1_000)]
    fixed = 0xF << 76 | 0b11 << 62
    chance = ((1 << 80) - 1) & ~fixed
    for names, bits in ((tokens, (1 << 80) - 1), (uuids, chance)):
        ever, always = 0, bits
        for name in names:
            ever |= name
            always &= name
        assert ever & bits == bits
        assert always == 0


def test_identifiers_are_unique_across_threads() -> None:
    tokens_by_thread: list[list[str]] = [[] for _ in range(4)]

    def make(into: list[str]) -> None:
        into.extend(identifiers.new_token()[12:] for _ in range(3_000))

    threads = [threading.Thread(target=make, args=(into,)) for into in tokens_by_thread]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({name for into in tokens_by_thread for name in into}) == 12_000


def test_a_forked_process_has_its_own_randomness() -> None:
    identifiers.new_token()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, identifiers.new_token()[12:].encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    uuid = os.read(reading, 64).decode()
    os.close(reading)
    assert len(uuid) == 20
    assert uuid not in {identifiers.new_token()[12:] for _ in range(600)}
