"""Media within a URI."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate_server.media.data_uri import (
    InvalidDataUri,
    declared_media_type,
    decode_chunks,
    is_data_uri,
)


@given(content=st.binary(max_size=5_000), repeat=st.sampled_from([1, 1_000]))
def test_base64_round_trip(content: bytes, repeat: int) -> None:
    """Whatever the size, in pieces that do not show."""
    full_content = content * repeat
    uri = f"data:image/png;base64,{base64.b64encode(full_content).decode()}"
    assert b"".join(decode_chunks(uri)) == full_content
    assert declared_media_type(uri) == "image/png"


@given(content=st.binary(max_size=500))
def test_percent_encoding_round_trip(content: bytes) -> None:
    """The other form."""
    written = "".join(f"%{byte:02x}" for byte in content)
    assert b"".join(decode_chunks(f"data:text/plain;charset=utf-8,{written}")) == content


def test_unusual_data_uris() -> None:
    """Upper case, no type, and percents within base64."""
    assert is_data_uri("DATA:,x")
    assert b"".join(decode_chunks("DATA:;BASE64,QUI%3D")) == b"AB"
    assert b"".join(decode_chunks("data:,a%20b")) == b"a b"
    assert declared_media_type("data:,x") == ""


@pytest.mark.parametrize(
    "uri",
    ["data:image/png;base64", "data:;base64,A", "data:;base64,QUI=QUI=x", "data:;base64,é", "x"],
)
def test_malformed_data_uris(uri: str) -> None:
    """They are told, not guessed at."""
    with pytest.raises(InvalidDataUri):
        list(decode_chunks(uri))
