"""Finished media over http, to files."""

import asyncio
import gzip
import hashlib
import os
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mediagate.v1.medium_pb2 import Media
from mediagate_client import (
    AsyncClient,
    Client,
    DataLost,
    InvalidRequest,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from mediagate_client.download import download

FILE = bytes(range(256)) * 4096


class Files(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    encoded = ("identity", b"")
    """The coding and the body of /encoded."""

    def do_GET(self) -> None:
        if self.path == "/gone":
            self.send_error(404)
        elif self.path == "/broken":
            self.send_error(500)
        elif self.path == "/encoded":
            coding, body = self.encoded
            self.send_response(200)
            self.send_header("content-encoding", coding)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        elif self.path.startswith("/echo"):
            self.send_response(200)
            self.send_header("content-length", str(len(self.path)))
            self.end_headers()
            self.wfile.write(self.path.encode())
        elif self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("location", "file:///etc/hostname")
            self.send_header("content-length", "0")
            self.end_headers()
        elif self.path == "/moved":
            self.send_response(302)
            self.send_header("location", "/file")
            self.send_header("content-length", "0")
            self.end_headers()
        else:
            self.send_response(200)
            if self.path != "/endless":
                self.send_header("content-length", str(len(FILE)))
            self.send_header("connection", "close")
            self.end_headers()
            cut = len(FILE) // 2 if self.path == "/cut" else len(FILE)
            self.wfile.write(FILE[:cut])
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base has it
        """Stays quiet."""


@pytest.fixture(scope="module")
def files() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def media_of_uri(uri: str) -> Media:
    return Media(uri=uri, size_bytes=len(FILE), sha256=hashlib.sha256(FILE).hexdigest())


def test_a_file_is_saved_complete(files: str, tmp_path: Path) -> None:
    """Byte for byte, proven by size and hash, over a redirect as well, and nothing beside it."""
    target = tmp_path / "out.bin"
    assert download(media_of_uri(f"{files}/file"), target) == target
    assert target.read_bytes() == FILE
    assert download(f"{files}/moved", str(target)) == target
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/gone", NotFound),
        ("/broken", Unavailable),
        ("/cut", Unavailable),
        ("/elsewhere", Unavailable),
    ],
)
def test_an_incomplete_download_leaves_no_file(
    files: str, tmp_path: Path, path: str, kind: type[Exception]
) -> None:
    """An older file of that name stays as it was, and no half file appears."""
    target = tmp_path / "out.bin"
    target.write_text("older")
    with pytest.raises(kind):
        download(media_of_uri(files + path), target)
    assert target.read_text() == "older"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("coding", "body"), [("gzip", gzip.compress(FILE)), ("deflate", zlib.compress(FILE))]
)
def test_encoded_content_is_decoded(
    files: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coding: str, body: bytes
) -> None:
    """It is the file that is measured and bounded; one that breaks off is none."""
    target = tmp_path / "out.bin"
    monkeypatch.setattr(Files, "encoded", (coding, body))
    download(media_of_uri(f"{files}/encoded"), target)
    assert target.read_bytes() == FILE
    target.unlink()
    with pytest.raises(ResourceExhausted):
        download(f"{files}/encoded", target, max_bytes=len(FILE) - 1)
    monkeypatch.setattr(Files, "encoded", (coding, body[:-20]))
    with pytest.raises(Unavailable):
        download(f"{files}/encoded", target)
    assert not list(tmp_path.iterdir())


def _raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


SMALL = FILE[:5_000]


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("body", "codings"),
    [
        (gzip.compress(SMALL[:999]) + gzip.compress(SMALL[999:]), "gzip"),
        (gzip.compress(SMALL) + bytes(512), "X-GZIP"),
        (gzip.compress(gzip.compress(SMALL)), "gzip, gzip"),
        (gzip.compress(zlib.compress(SMALL)), "deflate,gzip"),
        (_raw_deflate(SMALL), "deflate"),
        (gzip.compress(SMALL), "aws-chunked,gzip"),
        (SMALL, "none"),
        (SMALL, "gzip"),
    ],
)
def test_every_content_encoding_is_decoded(
    files: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: bytes,
    codings: str,
    chunk: int,
) -> None:
    """Several members, several layers, other spellings, and what is only said to be encoded."""
    monkeypatch.setattr("mediagate_client.download._CHUNK_BYTES", chunk)
    monkeypatch.setattr(Files, "encoded", (codings, body))
    assert download(f"{files}/encoded", tmp_path / "out.bin").read_bytes() == SMALL


@pytest.mark.parametrize("codings", ["br", "zstd", "gzip,br", "compress"])
def test_undecodable_content_is_not_saved(
    files: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codings: str
) -> None:
    """Its bytes are not the file."""
    monkeypatch.setattr(Files, "encoded", (codings, SMALL))
    with pytest.raises(DataLost):
        download(f"{files}/encoded", tmp_path / "out.bin")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "requested"),
    [
        ("/echo%2C%2f%3A~%7E+%20;a?a=1&&b&c=%2F", "/echo%2C%2f%3A~%7E+%20;a?a=1&&b&c=%2F"),
        ("/echo/ä%2C?ü=%2c", "/echo/%C3%A4%2C?%C3%BC=%2c"),
        ("/echo/a b%2C?c d", "/echo/a%20b%2C?c%20d"),
    ],
)
def test_urls_are_requested_unchanged(
    files: str, tmp_path: Path, given: str, requested: str
) -> None:
    """They may be signed; what no request can hold is percent-encoded."""
    assert download(files + given, tmp_path / "out").read_text() == requested


def test_an_invalid_host_name_is_refused(tmp_path: Path) -> None:
    """In our words."""
    with pytest.raises(InvalidRequest):
        download(f"https://{'ü' * 80}.example/a", tmp_path / "out")


@pytest.mark.parametrize("path", ["/file", "/endless"])
def test_the_size_is_bounded(files: str, tmp_path: Path, path: str) -> None:
    """Whether the server says how large it is or not."""
    with pytest.raises(ResourceExhausted):
        download(files + path, tmp_path / "out.bin", max_bytes=len(FILE) - 1)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_is_detected(files: str, tmp_path: Path) -> None:
    """Bytes that are not the ones made are an error, by size or by hash."""
    for media in (
        Media(uri=f"{files}/file", size_bytes=7),
        Media(uri=f"{files}/file", sha256="0" * 64),
    ):
        with pytest.raises(DataLost):
            download(media, tmp_path / "out.bin")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["", "file:///etc/hostname", "ftp://127.0.0.1/x", "out.png"])
def test_only_http(uri: str, tmp_path: Path) -> None:
    """A link to anything else is not followed."""
    with pytest.raises(InvalidRequest):
        download(Media(uri=uri), tmp_path / "out.bin")


def test_an_unreachable_server_is_unavailable(tmp_path: Path) -> None:
    """A server that cannot be reached is Unavailable."""
    with pytest.raises(Unavailable):
        download("http://127.0.0.1:1/x", tmp_path / "out.bin")


def test_a_missing_folder(files: str, tmp_path: Path) -> None:
    """That is the caller's own file system: Python's own error."""
    with pytest.raises(FileNotFoundError):
        download(f"{files}/file", tmp_path / "none" / "out.bin")


async def test_both_clients_download(files: str, tmp_path: Path) -> None:
    """The asyncio client does it in a thread."""
    with Client("127.0.0.1:1") as client:
        client.download(f"{files}/file", tmp_path / "one")
    async with AsyncClient("127.0.0.1:1") as client_:
        await client_.download(f"{files}/file", tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == FILE


async def test_a_cancelled_download_stops(tmp_path: Path) -> None:
    """The thread behind a cancelled task ends at its next chunk and leaves nothing."""
    begun, over = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Slow(Files):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(FILE)
            loop.call_soon_threadsafe(begun.set)
            try:
                while not over.is_set():
                    self.wfile.write(FILE)
            except ConnectionError:
                over.set()
            self.close_connection = True

    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        async with AsyncClient("127.0.0.1:1") as client:
            uri = f"http://127.0.0.1:{server.server_port}/"
            saving = asyncio.create_task(client.download(uri, tmp_path / "x"))
            await begun.wait()
            saving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await saving
            assert await asyncio.to_thread(over.wait, 20)
        server.shutdown()
        thread.join()
    assert await asyncio.to_thread(os.listdir, tmp_path) == []
