"""Hashes are what any other library makes of the same key and content."""

import hmac

from hypothesis import given
from hypothesis import strategies as st

from mediagate_server.generations.submission_request import input_hash, keyed_hash


@given(key=st.binary(min_size=1, max_size=100), content=st.binary(max_size=5_000))
def test_hmac_sha_256(key: bytes, content: bytes) -> None:
    """Whatever was hashed before, under this key or another."""
    assert keyed_hash(key, content) == hmac.digest(key, content, "sha256").hex()
    assert keyed_hash(key, content) == keyed_hash(key, content)


def test_an_inputs_hash_is_independent_of_field_order() -> None:
    """In whatever order its fields come."""
    assert input_hash(b"k", {"a": 1, "b": 2}) == input_hash(b"k", {"b": 2, "a": 1})
    assert input_hash(b"k", {"a": 1}) != input_hash(b"other", {"a": 1})
