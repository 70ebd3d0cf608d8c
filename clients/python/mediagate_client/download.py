"""Finished media, to a file. Links are followed without any key or token."""

import hashlib
import http.client
import os
import string
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
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
    refused_here,
)

DEFAULT_MAX_BYTES: Final = 2 * 1024**3
_CHUNK_BYTES: Final = 256 * 1024
_SOCKET_SECONDS: Final = 60.0
_GONE: Final = (403, 404, 410)


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
        raise refused_here("media", "it has no http(s) link; read its generation again")
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
            refuse_over(size, max_bytes)
            digest.update(chunk)
            part.write(chunk)

        try:
            refuse_over(expected.size_bytes, max_bytes)
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
            decoder = _decoder(answer.headers.get("content-encoding"))
            while chunk := answer.read(_CHUNK_BYTES):
                if stopped():
                    raise _failure(Unavailable, grpc.StatusCode.CANCELLED, "it was stopped")
                size += len(chunk)
                _decode(decoder, chunk, write)
            if decoder is not None and not decoder.eof:
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
        raise refused_here("media", "its link has a host that cannot be looked up") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as e:
        message = "the server of the file cannot be reached, or stopped in the middle"
        raise _failure(Unavailable, grpc.StatusCode.UNAVAILABLE, message) from e


def _decoder(content_encoding: str | None) -> "zlib._Decompress | None":
    """Return what decodes the body; None where it is the file itself. Nothing was asked to encode
    it, but storages give a file as it was put there.
    """
    coding = (content_encoding or "identity").strip().lower()
    if coding in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    return None


def _decode(
    decoder: "zlib._Decompress | None", chunk: bytes, write: Callable[[bytes], None]
) -> None:
    """Write what a chunk stands for, a little at a time: it may be a thousand times as much."""
    if decoder is None:
        write(chunk)
        return
    is_full = False
    while (chunk or is_full) and not decoder.eof:
        data = decoder.decompress(chunk, _CHUNK_BYTES)
        write(data)
        chunk, is_full = decoder.unconsumed_tail, len(data) == _CHUNK_BYTES


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


def refuse_over(size: int, max_bytes: int) -> None:
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
