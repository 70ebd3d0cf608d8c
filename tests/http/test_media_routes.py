"""Kept media through the wire: whole, in ranges, and to nobody without a link that holds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from mediagate_server.http import media_routes as room
from mediagate_server.http.media_routes import MediaRoutes
from mediagate_server.http.servers import PublicHttpServer
from mediagate_server.media.file_store import FileSystemMediaStore
from mediagate_server.media.media_store import MediaInfo
from mediagate_server.media.signed_links import MediaLinkSigner
from mediagate_server.media.temp_files import TempFiles
from mediagate_server.runtime.fair_scheduler import FairScheduler
from mediagate_server.store.records import Generation, Output, State, StoredMedia
from tests.media.fake_clocks import JumpingClock
from tests.store.records import generation_record

CONTENT = bytes(range(256)) * 3_000
SIZE = len(CONTENT)
KEY = bytes(32)


@dataclass
class MediaPort:
    """A web port with one output behind it, and the link to that."""

    session: aiohttp.ClientSession
    folder: FileSystemMediaStore
    spool: TempFiles
    clock: JumpingClock
    link: URL
    expires_at: datetime

    async def store(self, media_type: str, content: bytes = CONTENT) -> None:
        """Another file under the same link."""
        async with self.spool.create(len(content)) as incoming:
            await incoming.write(content)
            await incoming.finish()
            facts = MediaInfo(incoming.size, incoming.sha256, media_type)
            await self.folder.put("outputs/gen_1/0", incoming.path, facts.to_metadata())

    def get(
        self, link: URL | None = None, **headers: str
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """GET with these headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.session.get(link or self.link, headers=named)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[MediaPort]:
    """The port, with a film kept."""
    async with AsyncExitStack() as stack:
        port = PublicHttpServer("127.0.0.1:0")
        stack.callback(port.close)
        clock, folder = JumpingClock(), FileSystemMediaStore(tmp_path / "kept")
        links = MediaLinkSigner(folder, port.local_url, KEY, now=clock.now, lifetime=lambda: 600.0)
        port.add(MediaRoutes(links, folder, clock.now, FairScheduler()).routes())
        await stack.enter_async_context(port)
        session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        medium = StoredMedia("https://replicate.delivery/a.mp4", "video/mp4", is_stored=True)
        link = (await links.links_for(finished(medium)))[0]
        opened = MediaPort(
            session, folder, TempFiles(tmp_path / "in"), clock, URL(link.uri), link.expires_at
        )
        await opened.store("video/mp4")
        yield opened


def finished(*media: StoredMedia) -> Generation:
    """A generation with these outputs."""
    return generation_record("1", state=State.SUCCEEDED, output=Output(media=media))


async def test_the_whole_file(door: MediaPort) -> None:
    """With what it is; a page on this host it is not."""
    async with door.get() as answer:
        assert answer.status == 200
        assert await answer.read() == CONTENT
        headers = answer.headers
    assert headers["Content-Type"] == "video/mp4"
    assert headers["Content-Length"] == str(SIZE)
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "private, max-age=600"
    async with door.session.head(door.link) as answer:
        assert (answer.status, await answer.read()) == (200, b"")
        assert answer.headers["Content-Length"] == str(SIZE)
        assert answer.headers["ETag"] == headers["ETag"]


@pytest.mark.parametrize(
    ("range_header", "expected"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=0-", slice(0, SIZE)),
        ("bytes=100-199", slice(100, 200)),
        ("bytes=300000-600000", slice(300_000, 600_001)),
        (f"bytes={SIZE - 1}-", slice(SIZE - 1, SIZE)),
        (f"bytes=5-{SIZE * 9}", slice(5, SIZE)),
        ("bytes=-3", slice(SIZE - 3, SIZE)),
        (f"bytes=-{SIZE * 2}", slice(0, SIZE)),
    ],
)
async def test_byte_ranges(range_header: str, expected: slice, door: MediaPort) -> None:
    """From anywhere to anywhere, by GET and by HEAD."""
    expected_content = CONTENT[expected]
    is_complete = len(expected_content) == SIZE
    for method in ("GET", "HEAD"):
        async with door.session.request(
            method, door.link, headers={"Range": range_header}
        ) as answer:
            assert answer.status == (200 if is_complete else 206)
            assert answer.headers["Content-Length"] == str(len(expected_content))
            assert await answer.read() == (expected_content if method == "GET" else b"")
            if not is_complete:
                content_range = f"bytes {expected.start}-{expected.stop - 1}/{SIZE}"
                assert answer.headers["Content-Range"] == content_range


@pytest.mark.parametrize("range_header", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", "bytes=-0"])
async def test_unsatisfiable_ranges(range_header: str, door: MediaPort) -> None:
    """416, with the size."""
    async with door.get(Range=range_header) as answer:
        assert answer.status == 416
        assert answer.headers["Content-Range"] == f"bytes */{SIZE}"
        assert await answer.read() == b""


@pytest.mark.parametrize(
    "range_header", ["bytes=5-2", "bytes=0-1,5-9", "lines=1-2", "bytes=", "x", "bytes=-"]
)
async def test_invalid_ranges_are_ignored(range_header: str, door: MediaPort) -> None:
    """As the rules say: a range that cannot be read is as good as none."""
    async with door.get(Range=range_header) as answer:
        assert (answer.status, len(await answer.read())) == (200, SIZE)


async def test_conditional_requests(door: MediaPort) -> None:
    """Goes on where it is the same file, and gets all of another; what has not changed stays."""
    async with door.get() as answer:
        etag = answer.headers["ETag"]
    async with door.get(If_None_Match=etag) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
    async with door.get(Range="bytes=5-", If_Range=etag) as answer:
        assert (answer.status, await answer.read()) == (206, CONTENT[5:])
    await door.store("video/mp4", CONTENT[::-1])
    async with door.get(Range="bytes=5-", If_Range=etag) as answer:
        assert (answer.status, await answer.read()) == (200, CONTENT[::-1])
    async with door.get(If_None_Match=etag) as answer:
        assert answer.status == 200


async def test_invalid_signatures_are_not_found(door: MediaPort) -> None:
    """Another file's, changed in any place, or none: 404, whether there is such a file or not."""
    good = door.link
    late = str(int(good.query["expires"]) + 1)
    path = good.path
    bad = [
        good.with_query({}),
        good.with_path(path.replace("gen_1", "gen_2")).with_query(good.query),
        good.with_path(path[:-1] + "1").with_query(good.query),
        good.with_path(path + "0").with_query(good.query),
        good.with_path(path + "/0").with_query(good.query),
        good.with_path("/media/..%2Fuploads/0", encoded=True).with_query(good.query),
        good.update_query(expires=late),
        good.update_query(expires="x"),
        good.update_query(expires="\u0661\u0662"),
        good.update_query(signature=""),
        good.update_query(signature="\u00e9"),
        good.update_query(signature=good.query["signature"][:-1]),
        good.update_query(signature=good.query["signature"].swapcase()),
    ]
    for link in bad:
        async with door.get(link) as answer:
            assert (answer.status, link) == (404, link)
    async with door.get() as answer:
        assert answer.status == 200
    async with door.session.post(good) as answer:
        assert answer.status == 405


async def test_an_expired_link_is_gone(door: MediaPort) -> None:
    """410 from the second that it tells."""
    assert door.expires_at == datetime(2026, 11, 24, 12, 10, tzinfo=UTC)
    await door.clock.sleep(599)
    async with door.get() as answer:
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "private, max-age=1"
    await door.clock.sleep(1)
    async with door.get() as answer:
        assert answer.status == 410


async def test_a_deleted_file_is_not_found(door: MediaPort) -> None:
    """404: a link is no promise."""
    await door.folder.delete("outputs/gen_1")
    async with door.get() as answer:
        assert answer.status == 404


@pytest.mark.parametrize(
    ("media_type", "is_inline"),
    [
        ("image/png", True),
        ("audio/wav", True),
        ("image/svg+xml", False),
        ("text/html", False),
        ("application/octet-stream", False),
    ],
)
async def test_html_is_downloaded_and_not_rendered(
    media_type: str, is_inline: bool, door: MediaPort
) -> None:
    """What a model makes must not run on this host."""
    await door.store(media_type)
    async with door.get() as answer:
        assert answer.headers["Content-Type"] == media_type
        disposition = answer.headers["Content-Disposition"]
    assert disposition == f'{"inline" if is_inline else "attachment"}; filename="gen_1-0"'


async def test_a_truncated_file_breaks_the_connection(door: MediaPort, tmp_path: Path) -> None:
    """The connection ends before the length that was told."""
    await door.store("video/mp4", bytes(32 * 1024 * 1024))
    path = next((tmp_path / "kept").rglob("0"))
    async with door.get() as answer:
        await answer.content.readexactly(1)
        path.unlink()
        with pytest.raises(aiohttp.ClientError):
            await answer.read()


async def test_only_stored_media_get_a_link(tmp_path: Path) -> None:
    """Nothing else is there to be read; nor where nobody knows of the port."""
    clock, folder = JumpingClock(), FileSystemMediaStore(tmp_path)
    both = finished(
        StoredMedia("https://replicate.delivery/a", "image/png", clock.now() + timedelta(1)),
        StoredMedia("https://replicate.delivery/b", "image/png", is_stored=True),
    )
    signer = MediaLinkSigner(
        folder, "https://gate.example/x/", KEY, now=clock.now, lifetime=lambda: 60.0
    )
    unknown = MediaLinkSigner(folder, "", KEY, now=clock.now, lifetime=lambda: 60.0)
    links = await signer.links_for(both)
    assert links.keys() == {1}
    assert links[1].uri.startswith("https://gate.example/x/media/gen_1/1?expires=")
    assert await unknown.links_for(both) == {}


async def test_stalled_readers_give_way(door: MediaPort, monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold places as long as nobody else wants them; who reads is never cut for another."""
    monkeypatch.setattr(room, "_MAX_READERS", 2)
    await door.store("video/mp4", bytes(64 * 1024 * 1024))
    async with AsyncExitStack() as stack:
        for _ in range(2):
            reader, writer = await asyncio.open_connection(door.link.host, door.link.port)
            stack.callback(writer.close)
            writer.write(f"GET {door.link.raw_path_qs} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        async with door.get() as answer:
            assert answer.status == 503
        monkeypatch.setattr(room, "_WRITE_TIMEOUT_WHEN_FULL", 0.0)
        status = 503
        while status == 503:  # Until both have been handed as much as they take unread.
            async with door.get(Range="bytes=0-9") as answer:
                status = answer.status
                if status == 206:
                    assert len(await answer.read()) == 10
        assert status == 206
