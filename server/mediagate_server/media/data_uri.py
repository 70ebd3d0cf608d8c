"""Data URIs (RFC 2397): media within the URI itself, decoded in chunks."""

import binascii
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

_CHUNK_CHARACTERS = (
    1024 * 1024
)  # of base64: a multiple of 4, so that each piece can be read by itself


class InvalidDataUri(ValueError):
    """The data URI cannot be decoded."""


def is_data_uri(uri: str) -> bool:
    """Whether a URI is a data URI."""
    return uri[:5].lower() == "data:"


def declared_media_type(uri: str) -> str:
    """Declared media type, with parameters; empty where none is declared."""
    return _head(uri).removesuffix(";base64")


def decode_chunks(uri: str) -> Iterator[bytes]:
    """Decode in chunks. Raises InvalidDataUri, perhaps after some of them."""
    head = _head(uri)
    begin = 5 + len(head) + 1
    if not head.lower().endswith(";base64"):
        yield unquote_to_bytes(uri[begin:])
        return
    body = uri[begin:]
    if "%" in body:
        body = unquote_to_bytes(body).decode("latin-1")
    try:
        for start in range(0, len(body), _CHUNK_CHARACTERS):
            yield binascii.a2b_base64(body[start : start + _CHUNK_CHARACTERS], strict_mode=True)
    except ValueError as error:  # binascii.Error, or letters that are not ASCII
        raise InvalidDataUri from error


def _head(uri: str) -> str:
    head, comma, _ = uri[5:].partition(",")
    if not is_data_uri(uri) or not comma:
        raise InvalidDataUri
    return head
