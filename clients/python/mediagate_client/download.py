"""Finished media, to a file. Links are followed without any key or token."""

import hashlib
import http.client
import os
import re
import string
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import grpc

from mediagate.v1.medium_pb2 import Media
from mediagate_client.errors import (
    DataLost,
    Details,
    MediagateError,
    NotFound,
    ResourceExhausted,
    Unavailable,
    local_invalid_request,
)

DEFAULT_MAX_BYTES: Final = 2 * 1024**3
_CHUNK_BYTES: Final = 256 * 1024
_SOCKET_SECONDS: Final = 60.0
_GONE: Final = (403, 404, 410)
_GZIP: Final = frozenset({"gzip", "x-gzip"})
_GZIP_BEGIN: Final = 0x1F
_NO_CODINGS: Final = frozenset(
    {"", "identity", "none", "aws-chunked", "binary", "8bit", "utf-8", "utf8"}
)
"""What servers write as a content coding that says nothing of the body."""


def download(
    media: Media | str,
    path: str | Path,
    *,
    max_bytes: int = DEFAULT_MAX_BYTES,
    stopped: Callable[[], bool] = lambda: False,
) -> Path:
    """Save a medium, or what an http(s) URL leads to, as the file `path`; return the path.

    The file appears only once it is whole and, where the gate told its size and SHA-256, proven
    so. `stopped` is asked between chunks; a stopped download leaves nothing.

    Raises NotFound where the link is gone (read the generation again for a fresh one),
    ResourceExhausted over `max_bytes`, DataLost where the file is not the one that was made,
    Unavailable where the server cannot be reached, OSError where `path` cannot be written.
    """
    expected = Media(uri=media) if isinstance(media, str) else media
    if not has_link(expected):
        raise local_invalid_request("media", "it has no http(s) link; read its generation again")
    with saving(expected, path, max_bytes) as write:
        _receive(expected.uri, write, stopped)
    return Path(path)


def has_link(media: Media) -> bool:
    """Say whether there is an http(s) link to follow."""
    return urllib.parse.urlsplit(media.uri).scheme in ("http", "https")


@contextmanager
def saving(expected: Media, path: str | Path, max_bytes: int) -> Iterator[Callable[[bytes], None]]:
    """Give a function that adds bytes to the file `path`, which appears once the block is over.

    Only if it is whole then: a block that raises leaves nothing, and so does a file that is not
    the one whose size and SHA-256 `expected` tells. Raises ResourceExhausted over `max_bytes`.
    """
    target = Path(path)
    digest = hashlib.sha256()
    size = 0
    with tempfile.NamedTemporaryFile(
        dir=target.parent, prefix=f".{target.name}.", suffix=".part", delete=False
    ) as part:

        def write(chunk: bytes) -> None:
            nonlocal size
            size += len(chunk)
            check_file_size(size, max_bytes)
            digest.update(chunk)
            part.write(chunk)

        try:
            check_file_size(expected.size_bytes, max_bytes)
            yield write
            _refuse_another(expected, size, digest.hexdigest())
            part.flush()
            os.fchmod(part.fileno(), 0o666 & ~_umask())
            Path(part.name).replace(target)
        except BaseException:
            Path(part.name).unlink()
            raise


def _receive(uri: str, write: Callable[[bytes], None], stopped: Callable[[], bool]) -> None:
    """Write the bytes behind a link."""
    size = 0
    try:
        with _opener().open(_in_ascii(uri), timeout=_SOCKET_SECONDS) as answer:
            announced = int(answer.headers.get("content-length") or 0)
            inflaters = _inflaters(answer.headers.get_all("content-encoding", ()), write)
            take = inflaters[0].feed if inflaters else write
            while chunk := answer.read(_CHUNK_BYTES):
                if stopped():
                    raise _failure(Unavailable, grpc.StatusCode.CANCELLED, "it was stopped")
                size += len(chunk)
                take(chunk)
            if not all(each.is_whole for each in inflaters):
                raise http.client.IncompleteRead(b"")
            if size < announced:
                # http.client tells of a short body only to those who read it in one go.
                raise http.client.IncompleteRead(b"", announced - size)
    except urllib.error.HTTPError as error:
        with error:
            raise _http_failure(error.code) from error
    except zlib.error as error:
        message = "the file is not encoded as its server says"
        raise _failure(DataLost, grpc.StatusCode.DATA_LOSS, message) from error
    except UnicodeError as error:
        raise local_invalid_request(
            "media", "its link has a host that cannot be looked up"
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as e:
        message = "the server of the file cannot be reached, or stopped in the middle"
        raise _failure(Unavailable, grpc.StatusCode.UNAVAILABLE, message) from e


class _Inflater:
    """A streaming decoder of one HTTP content coding: gzip, also of several members, or deflate,
    also without zlib's frame. What is only said to be gzip is given as it is.
    """

    def __init__(self, coding: str, write: Callable[[bytes], None]) -> None:
        self._is_gzip = coding in _GZIP
        self._write = write
        self._wbits: int | None = None
        self._member: zlib._Decompress | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all that has begun has ended."""
        return self._member is None or self._member.eof

    def feed(self, chunk: bytes) -> None:
        """Write what some bytes stand for, a little at a time: it may be a thousand times more."""
        if self._wbits is None:
            self._wbits = self._wbits_of(chunk[0])
            self._member = zlib.decompressobj(wbits=self._wbits) if self._wbits else None
        if self._member is None:
            self._write(chunk)
            return
        is_full = False
        while chunk or is_full:
            if self._member.eof:
                if not self._is_gzip or chunk[0] != _GZIP_BEGIN:
                    return  # Padding.
                self._member = zlib.decompressobj(wbits=self._wbits)
            data = self._member.decompress(chunk, _CHUNK_BYTES)
            is_full = len(data) == _CHUNK_BYTES and not self._member.eof
            chunk = self._member.unconsumed_tail or self._member.unused_data
            if data:
                self._write(data)

    def _wbits_of(self, begin: int) -> int:
        if self._is_gzip:
            return zlib.MAX_WBITS | 16 if begin == _GZIP_BEGIN else 0
        return zlib.MAX_WBITS if begin & 0x0F == zlib.DEFLATED else -zlib.MAX_WBITS


def _inflaters(content_encodings: Sequence[str], write: Callable[[bytes], None]) -> list[_Inflater]:
    """Return what decodes a body, the last that was applied first; empty where it is the file.

    Nobody asks for an encoded body, but storages give a file as it was put there.
    """
    named = re.split(r"[\s,]+", ",".join(content_encodings).lower())
    found: list[_Inflater] = []
    for coding in named:  # In the order in which they were applied.
        if coding in _NO_CODINGS:
            continue
        if coding not in _GZIP and coding != "deflate":
            message = "the file is encoded in a way that was not asked for"
            raise _failure(DataLost, grpc.StatusCode.DATA_LOSS, message)
        found.insert(0, _Inflater(coding, found[0].feed if found else write))
    return found


def _in_ascii(uri: str) -> str:
    """Return the link as a request holds it. What is ASCII stays as it is: it may be signed."""
    if uri.isascii() and " " not in uri:
        return uri
    parts = urllib.parse.urlsplit(uri)
    host = parts.netloc.encode("idna").decode("ascii")
    safe = string.punctuation
    path, query = (urllib.parse.quote(part, safe=safe) for part in (parts.path, parts.query))
    return urllib.parse.urlunsplit((parts.scheme, host, path, query, ""))


def _refuse_another(expected: Media, size: int, sha256: str) -> None:
    """Raise DataLost for bytes that are not the ones made."""
    if expected.HasField("size_bytes") and expected.size_bytes != size:
        message = f"{size:,} bytes came, {expected.size_bytes:,} were made"
        raise _failure(DataLost, grpc.StatusCode.DATA_LOSS, message)
    if expected.sha256 and expected.sha256 != sha256:
        raise _failure(DataLost, grpc.StatusCode.DATA_LOSS, "its SHA-256 is not the one it had")


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener that speaks http and https and nothing else, redirects included."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def check_file_size(size: int, max_bytes: int) -> None:
    """Raise ResourceExhausted for more bytes than are allowed."""
    if size > max_bytes:
        message = f"the file is over the {max_bytes:,} bytes allowed"
        raise _failure(ResourceExhausted, grpc.StatusCode.RESOURCE_EXHAUSTED, message)


def _http_failure(status: int) -> MediagateError:
    if status in _GONE:
        message = f"the link is gone (HTTP {status}); read the generation again for a fresh one"
        return _failure(NotFound, grpc.StatusCode.NOT_FOUND, message)
    message = f"the server of the file answered HTTP {status}"
    return _failure(Unavailable, grpc.StatusCode.UNAVAILABLE, message)


def _failure(kind: type[MediagateError], code: grpc.StatusCode, message: str) -> MediagateError:
    return kind(Details(code, f"download: {message}"))


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
