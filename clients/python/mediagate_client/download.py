"""Download of finished media to files. Links are opened without any key or token."""

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
from mediagate_client.conversion import build
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
"""Values of Content-Encoding that mean no encoding."""


def download(
    media: Media | str,
    path: str | Path,
    *,
    max_bytes: int = DEFAULT_MAX_BYTES,
    stopped: Callable[[], bool] = lambda: False,
) -> Path:
    """Download a medium, or an http(s) URL, to the file `path`; return the path.

    The file appears only once it is complete and, where they are known, its size and SHA-256 are
    verified. `stopped` is called between chunks; a stopped download leaves no file.

    Raises NotFound where the link is gone (read the generation again for a fresh one),
    ResourceExhausted over `max_bytes`, DataLost where size or SHA-256 differ,
    Unavailable where the server cannot be reached, OSError where `path` cannot be written.
    """
    if isinstance(media, str):
        expected = build(Media, uri=media)
    elif isinstance(media, Media):
        expected = media
    else:
        raise local_invalid_request(
            "media", f"expected a Media or a link, not {type(media).__name__}"
        )
    if not has_link(expected):
        raise local_invalid_request("media", "it has no http(s) link; read its generation again")
    with atomic_file(expected, path, max_bytes) as write:
        _receive(expected.uri, write, stopped)
    return Path(path)


def has_link(media: Media) -> bool:
    """Whether a medium has an http(s) link."""
    return media.uri.lower().startswith(("http://", "https://"))


@contextmanager
def atomic_file(
    expected: Media, path: str | Path, max_bytes: int
) -> Iterator[Callable[[bytes], None]]:
    """Context manager for an atomic, verified write: gives a function that appends bytes.

    The file `path` appears at the end of the block. A block that raises leaves no file, nor does
    one of another size or SHA-256 than `expected`. Raises ResourceExhausted over `max_bytes`.
    """
    try:
        target = Path(path)
        os.fsencode(target)
    except (TypeError, UnicodeError):
        raise local_invalid_request("path", "it is no path") from None
    if "\0" in str(target):
        raise local_invalid_request("path", "it has a null byte")
    digest = hashlib.sha256()
    size = 0
    with tempfile.NamedTemporaryFile(
        dir=target.parent, prefix=f".{target.name[:32]}.", suffix=".part", delete=False
    ) as temporary:

        def write(chunk: bytes) -> None:
            nonlocal size
            size += len(chunk)
            check_file_size(size, max_bytes)
            digest.update(chunk)
            temporary.write(chunk)

        try:
            check_file_size(expected.size_bytes, max_bytes)
            yield write
            _check_content(expected, size, digest.hexdigest())
            temporary.flush()
            os.fchmod(temporary.fileno(), 0o666 & ~_umask())
            Path(temporary.name).replace(target)
        except BaseException:
            Path(temporary.name).unlink()
            raise


def _receive(uri: str, write: Callable[[bytes], None], stopped: Callable[[], bool]) -> None:
    """Download and decode the body of a URL."""
    size = 0
    try:
        with _opener().open(_ascii_url(uri), timeout=_SOCKET_SECONDS) as response:
            content_length = int(response.headers.get("content-length") or 0)
            decoders = _content_decoders(response.headers.get_all("content-encoding", ()), write)
            consume = decoders[0].feed if decoders else write
            while chunk := response.read(_CHUNK_BYTES):
                if stopped():
                    raise _failure(Unavailable, grpc.StatusCode.CANCELLED, "it was stopped")
                size += len(chunk)
                consume(chunk)
            if not all(each.is_complete for each in decoders):
                raise http.client.IncompleteRead(b"")
            if size < content_length:
                # http.client reports a short body only to a single read() of all of it.
                raise http.client.IncompleteRead(b"", content_length - size)
    except urllib.error.HTTPError as error:
        with error:
            raise _http_failure(error.code) from error
    except zlib.error as error:
        message = "the file is not encoded as its server says"
        raise _failure(DataLost, grpc.StatusCode.DATA_LOSS, message) from error
    except ValueError as error:  # UnicodeError, an invalid port or IPv6 address.
        raise local_invalid_request(
            "media", "its link has a host that cannot be looked up"
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as e:
        message = "the server of the file cannot be reached, or stopped in the middle"
        raise _failure(Unavailable, grpc.StatusCode.UNAVAILABLE, message) from e


class _Decoder:
    """Streaming decoder of one content coding: gzip, also of several members, or deflate, also
    without zlib's frame. A body that is not gzip in spite of its header is passed through.
    """

    def __init__(self, coding: str, write: Callable[[bytes], None]) -> None:
        self._is_gzip = coding in _GZIP
        self._write = write
        self._wbits: int | None = None
        self._member: zlib._Decompress | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the compressed data ended."""
        return self._member is None or self._member.eof

    def feed(self, chunk: bytes) -> None:
        """Decode in bounded chunks: the output may be a thousand times larger."""
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


def _content_decoders(
    content_encodings: Sequence[str], write: Callable[[bytes], None]
) -> list[_Decoder]:
    """Return the decoders of a body, the last applied coding first; empty if not encoded.

    The client does not accept encodings, but storages serve a file as it was uploaded.
    """
    codings = re.split(r"[\s,]+", ",".join(content_encodings).lower())
    decoders: list[_Decoder] = []
    for coding in codings:  # In the order in which they were applied.
        if coding in _NO_CODINGS:
            continue
        if coding not in _GZIP and coding != "deflate":
            message = "the file is encoded in a way that was not asked for"
            raise _failure(DataLost, grpc.StatusCode.DATA_LOSS, message)
        decoders.insert(0, _Decoder(coding, decoders[0].feed if decoders else write))
    return decoders


def _ascii_url(uri: str) -> str:
    """Convert an IRI to an ASCII URL. An ASCII one is unchanged: it may be signed."""
    if uri.isascii() and " " not in uri:
        return uri
    parts = urllib.parse.urlsplit(uri)
    host = parts.netloc.encode("idna").decode("ascii")
    safe = string.punctuation
    path, query = (
        urllib.parse.quote(component, safe=safe) for component in (parts.path, parts.query)
    )
    return urllib.parse.urlunsplit((parts.scheme, host, path, query, ""))


def _check_content(expected: Media, size: int, sha256: str) -> None:
    """Raise DataLost where size or SHA-256 differ."""
    if expected.HasField("size_bytes") and expected.size_bytes != size:
        message = f"{size:,} bytes came, {expected.size_bytes:,} were made"
        raise _failure(DataLost, grpc.StatusCode.DATA_LOSS, message)
    if expected.sha256 and expected.sha256 != sha256:
        raise _failure(DataLost, grpc.StatusCode.DATA_LOSS, "its SHA-256 is not the one it had")


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for http and https alone, also in redirects."""
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
    """Raise ResourceExhausted for a file over `max_bytes`."""
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
