"""Keeping outputs: what arrives whole is kept, what does not is told in our own words."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from aiohttp import web

from mediagate_sandbox.files import render_file
from mediagate_sandbox.generators.spec import ImageRecipe, VideoRecipe
from mediagate_server import rpc_context
from mediagate_server.errors import Reason
from mediagate_server.media.downloader import MediaDownloader
from mediagate_server.media.file_store import FileSystemMediaStore
from mediagate_server.media.isolated_probe import IsolatedProbe
from mediagate_server.media.output_archiver import ARCHIVE_SPACING_SECONDS, OutputArchiver
from mediagate_server.media.temp_files import TempFiles
from mediagate_server.runtime.fair_scheduler import FairScheduler
from mediagate_server.store.records import StoredMedia

from .fake_clocks import JumpingClock
from .file_server import Answer, FileServer, cut, file, moved, silent, unending

PICTURE = render_file(ImageRecipe("a/b", "x", 1, 320, 192, "png"))
NOISE = bytes(range(128, 192))
FILM = render_file(VideoRecipe("a/b", "x", 1, 320, 192, 1.0, 8))
EXPIRES = datetime(2026, 11, 24, 13, tzinfo=UTC)

ENDED = datetime(2026, 11, 24, 12, tzinfo=UTC)

Archive = Callable[..., Awaitable[StoredMedia]]


@pytest.fixture
async def archive(
    folder: FileSystemMediaStore, spool: TempFiles, file_server: FileServer
) -> AsyncIterator[Archive]:
    """Keeps one output of at most 1 MB and tells what became of it; its clock jumps."""
    idle = [30.0]
    async with MediaDownloader(file_server.url, idle_timeout=lambda: idle[0]) as fetcher:

        async def archive_one(
            uri: str,
            media_type: str = "image/png",
            max_bytes: int = 1_000_000,
            idle_seconds: float = 30,
        ) -> StoredMedia:
            idle[0] = idle_seconds
            clock = JumpingClock()
            archiver = OutputArchiver(
                folder,
                spool,
                fetcher,
                IsolatedProbe(),
                max_bytes=lambda: max_bytes,
                timeout=lambda: 30.0,
                now=clock.now,
                sleep=clock.sleep,
                scheduler=FairScheduler(),
            )
            (stored,) = await archiver.archive(
                "gen_1", (StoredMedia(uri, media_type, EXPIRES),), ENDED
            )
            return stored

        yield archive_one


async def content(folder: FileSystemMediaStore) -> bytes:
    """What is kept."""
    return b"".join([piece async for piece in folder.read("outputs/gen_1/0", 0, 1 << 30)])


async def test_a_url_is_archived(
    archive: Archive, file_server: FileServer, folder: FileSystemMediaStore
) -> None:
    """Kept whole, looked into, and upstream's link stays with its expiry. No token is sent."""
    link = file_server.put("/out.bin", file(FILM, "application/octet-stream"))
    stored = await archive(link, "image/png")
    assert stored == StoredMedia(
        link,
        "video/mp4",
        EXPIRES,
        seconds=1.0,
        size=len(FILM),
        sha256=hashlib.sha256(FILM).hexdigest(),
        width=320,
        height=192,
        is_stored=True,
    )
    assert await content(folder) == FILM
    assert "Authorization" not in file_server.requests[0].headers
    assert "Cookie" not in file_server.requests[0].headers


async def test_a_data_uri_is_archived(archive: Archive, folder: FileSystemMediaStore) -> None:
    """Kept like a link. One that would not fit into a message is shown by its copy alone."""
    for body, is_inlined in ((PICTURE[:200_000], True), (PICTURE + bytes(300_000), False)):
        uri = f"data:image/png;base64,{base64.b64encode(body).decode()}"
        stored = await archive(uri)
        assert (stored.is_stored, stored.size, stored.width) == (True, len(body), 320)
        assert stored.uri == (uri if is_inlined else "")
        assert await content(folder) == body


@pytest.mark.parametrize(
    ("answers", "tries"),
    [
        ((file(b"", status=500), file(PICTURE)), 2),
        ((file(b"", status=404), cut(PICTURE[:99], len(PICTURE)), file(PICTURE)), 3),
        ((file(b""), file(PICTURE)), 2),
        ((file(NOISE, "image/webp"), file(NOISE), file(PICTURE)), 3),
        ((moved("/moved"),), 1),
    ],
    ids=["broken", "late and cut", "empty", "damaged", "moved"],
)
async def test_transient_failures_are_retried(
    answers: tuple[Answer, ...],
    tries: int,
    archive: Archive,
    file_server: FileServer,
    folder: FileSystemMediaStore,
) -> None:
    """As often as it takes; a redirect on the same host is followed."""
    file_server.put("/moved", file(PICTURE))
    stored = await archive(file_server.put("/out.png", *answers))
    assert stored.failure is None
    assert await content(folder) == PICTURE
    assert len([request for request in file_server.requests if request.path == "/out.png"]) == tries


async def test_a_permanently_damaged_file_is_stored_as_it_is(
    archive: Archive, file_server: FileServer, folder: FileSystemMediaStore
) -> None:
    """It may be what the model made; but a picture it is not called. By itself it is taken so."""
    stored = await archive(file_server.put("/out.png", file(NOISE, "image/png")))
    assert (stored.is_stored, stored.media_type, stored.size) == (
        True,
        "application/octet-stream",
        64,
    )
    assert await content(folder) == NOISE
    assert len(file_server.requests) == 6
    inline = await archive(f"data:image/png;base64,{base64.b64encode(NOISE).decode()}")
    assert (inline.is_stored, inline.media_type) == (True, "application/octet-stream")
    other = await archive(file_server.put("/out", file(NOISE, "image/x-unheard-of")))
    assert (other.is_stored, other.media_type) == (True, "image/x-unheard-of")
    assert len(file_server.requests) == 7


@pytest.mark.parametrize(
    ("answer", "tries", "cause"),
    [
        (file(b"x", status=500), 37, "http status 500"),
        (file(b"x", status=410), 1, "http status 410"),
        (file(b"x", status=404), 6, "http status 404"),
        (file(b""), 6, "the file is empty"),
        (cut(PICTURE[:99], len(PICTURE)), 37, "the connection broke"),
        (file(bytes(1_000_001)), 1, "it is over 1,000,000 bytes"),
        (unending(bytes(65_536)), 1, "it is over 1,000,000 bytes"),
        (moved("http://localhost:1/a"), 1, "its host is not one to fetch from"),
        (moved("/out.png"), 1, "too many redirects"),
    ],
)
async def test_outputs_that_cannot_be_archived(
    answer: Answer,
    tries: int,
    cause: str,
    archive: Archive,
    file_server: FileServer,
    folder: FileSystemMediaStore,
) -> None:
    """A typed failure that says why, the link still there, and nothing on the disk."""
    link = file_server.put("/out.png", answer)
    stored = await archive(link)
    assert (stored.uri, stored.expires_at, stored.is_stored) == (link, EXPIRES, False)
    assert stored.failure is not None
    assert stored.failure.reason is Reason.OUTPUT_STORE_FAILED
    assert stored.failure.metadata == {"cause": cause}
    assert await folder.find("outputs/gen_1/0") is None
    times = 4 if "redirects" in cause else tries
    assert len(file_server.requests) == times


@pytest.mark.parametrize(
    "uri",
    ["data:,", "data:image/png;base64,", "data:image/png,", "DATA:;base64,", "data:;base64,%3D"],
)
async def test_permanent_failures_are_not_retried(
    uri: str, folder: FileSystemMediaStore, spool: TempFiles, file_server: FileServer
) -> None:
    """All there is of an empty medium is within its URI: it is refused without a pause."""
    clock = JumpingClock()
    began = clock.now()
    async with MediaDownloader(file_server.url, idle_timeout=lambda: 30.0) as fetcher:
        archiver = OutputArchiver(
            folder,
            spool,
            fetcher,
            IsolatedProbe(),
            max_bytes=lambda: 1_000_000,
            timeout=lambda: 30.0,
            now=clock.now,
            sleep=clock.sleep,
            scheduler=FairScheduler(),
        )
        (stored,) = await archiver.archive(
            "gen_1", (StoredMedia(uri, "image/png", EXPIRES),), ENDED
        )
    assert stored.failure is not None
    assert stored.failure.metadata["cause"] in ("the file is empty", "its data URI cannot be read")
    assert clock.now() == began


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost:{port}/a",
        "http://[::1]:{port}/a",
        "https://example.com/a.png",
        "file:///etc/passwd",
        "data:image/png;base64,@",
        "nonsense",
    ],
)
async def test_other_hosts_are_never_fetched(
    uri: str, archive: Archive, file_server: FileServer
) -> None:
    """Not upstream's host as it was configured: not fetched."""
    file_server.put("/a", file(PICTURE))
    stored = await archive(uri.format(port=file_server.url.rpartition(":")[2]))
    assert stored.failure is not None
    assert file_server.requests == []


@pytest.mark.parametrize("said", [b"", PICTURE[:99]])
async def test_idle_downloads_are_bounded(
    said: bytes, archive: Archive, file_server: FileServer, folder: FileSystemMediaStore
) -> None:
    """A server that says nothing, or nothing more, is asked again, and at last given up."""
    stored = await archive(file_server.put("/out.png", silent(said)), idle_seconds=0.02)
    assert stored.failure is not None
    assert stored.failure.metadata == {"cause": "nothing more came"}
    assert len(file_server.requests) == 37
    stored = await archive(
        file_server.put("/out.png", silent(said), file(PICTURE)), idle_seconds=0.02
    )
    assert stored.is_stored
    assert await content(folder) == PICTURE


async def test_one_of_several_outputs_may_fail(
    file_server: FileServer, folder: FileSystemMediaStore, spool: TempFiles
) -> None:
    """The others are kept, in order."""
    good, bad = file_server.put("/a", file(PICTURE)), file_server.put("/b", file(b"", status=403))
    async with MediaDownloader(file_server.url, idle_timeout=lambda: 30.0) as fetcher:
        archiver = create_archiver(folder, spool, fetcher)
        media = await archiver.archive(
            "gen_1", tuple(StoredMedia(link, "image/png") for link in (good, bad, good)), ENDED
        )
        assert [medium.is_stored for medium in media] == [True, False, True]
        assert await folder.keys("outputs/gen_1") == ("outputs/gen_1/0", "outputs/gen_1/2")
        await archiver.delete("gen_1")
    assert await folder.keys("outputs/gen_1") == ()


async def test_slow_downloads_are_bounded(
    file_server: FileServer, folder: FileSystemMediaStore, spool: TempFiles
) -> None:
    """Bytes that go on and on, but too slowly: each try has its time."""
    async with MediaDownloader(file_server.url, idle_timeout=lambda: 30.0) as fetcher:
        archiver = create_archiver(folder, spool, fetcher, seconds=0.02)
        link = file_server.put("/a", silent(PICTURE[:99]))
        (stored,) = await archiver.archive("gen_1", (StoredMedia(link, "image/png"),), ENDED)
    assert stored.failure is not None
    assert stored.failure.metadata == {"cause": "it took too long"}


@pytest.mark.parametrize("lifetime", [3_600.0, 60.0])
async def test_retries_continue_to_half_of_the_sources_lifetime(
    lifetime: float, file_server: FileServer, folder: FileSystemMediaStore, spool: TempFiles
) -> None:
    """Ever further apart, the last one right then; never later, and once at least."""
    clock = JumpingClock()
    tries = []

    async def broken(_: web.Request) -> web.StreamResponse:
        tries.append((clock.now() - ENDED).total_seconds())
        return web.Response(status=503)

    link = file_server.put("/a", broken)
    medium = StoredMedia(link, "image/png", ENDED + timedelta(seconds=lifetime))
    async with MediaDownloader(file_server.url, idle_timeout=lambda: 30.0) as fetcher:
        archiver = create_archiver(folder, spool, fetcher, clock=clock)
        (stored,) = await archiver.archive("gen_1", (medium,), ENDED)
        assert stored.failure is not None
        assert stored.failure.metadata == {"cause": "http status 503"}
        assert tries[-1] == lifetime / 2
        pauses = [after - before for before, after in pairwise(tries)]
        assert pauses[:3] == [0.5, 1.0, 2.0]
        assert max(pauses) <= 60
        tries.clear()
        file_server.put("/a", file(PICTURE))
        (stored,) = await archiver.archive("gen_1", (medium,), ENDED - timedelta(hours=5))
        assert stored.is_stored


async def test_outputs_archived_before_a_crash_are_not_fetched_again(
    file_server: FileServer, folder: FileSystemMediaStore, spool: TempFiles
) -> None:
    """Though its link has died meanwhile: what it is stands beside it."""
    link = file_server.put("/a", file(FILM))
    medium = StoredMedia(link, "video/mp4", EXPIRES)
    async with MediaDownloader(file_server.url, idle_timeout=lambda: 30.0) as fetcher:
        archiver = create_archiver(folder, spool, fetcher)
        (first,) = await archiver.archive("gen_1", (medium,), ENDED)
        file_server.put("/a", file(b"", status=404))
        (second,) = await archiver.archive("gen_1", (medium,), ENDED, may_exist=True)
        assert second == first
        assert len(file_server.requests) == 1


async def test_endless_downloads_use_only_their_tenants_slots(
    folder: FileSystemMediaStore, spool: TempFiles, file_server: FileServer
) -> None:
    """However many of one tenant's files come without end, another's is fetched at once."""
    endless = StoredMedia(file_server.put("/endless", silent(PICTURE[:99])), "image/png", EXPIRES)
    link = file_server.put("/picture", file(PICTURE))
    async with MediaDownloader(file_server.url, idle_timeout=lambda: 30.0) as fetcher:
        archiver = create_archiver(folder, spool, fetcher)

        async def archive_for(tenant: str, *media: StoredMedia) -> tuple[StoredMedia, ...]:
            rpc_context.bind_caller(rpc_context.Caller(tenant))
            return await archiver.archive(f"gen_{tenant}", media, ENDED)

        hostile = asyncio.create_task(archive_for("hostile", *[endless] * 100))
        async with asyncio.timeout(30):
            # A task that is made later comes to its place later.
            task = archive_for("working", StoredMedia(link, "image/png", EXPIRES))
            (stored,) = await asyncio.create_task(task)
        assert stored.is_stored
        hostile.cancel()
        await asyncio.gather(hostile, return_exceptions=True)


async def test_thousands_of_media_are_archived_in_batches(
    folder: FileSystemMediaStore, spool: TempFiles, file_server: FileServer
) -> None:
    """All are kept, and only a part of them is under way: each task of 5,000 would take memory."""
    link = file_server.put("/picture", file(PICTURE))
    most = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal most
        most = max(most, len(asyncio.all_tasks()))
        return await file(PICTURE)(request)

    file_server.put("/picture", answer)
    before = len(asyncio.all_tasks())
    async with MediaDownloader(file_server.url, idle_timeout=lambda: 30.0) as fetcher:
        media = (StoredMedia(link, "image/png", EXPIRES),) * 600
        stored = await create_archiver(folder, spool, fetcher).archive("gen_1", media, ENDED)
    assert all(output.is_stored for output in stored)
    assert len(stored) == len(file_server.requests) == 600
    assert before < most < before + 350


async def test_large_archiving_jobs_yield_to_other_tenants(
    folder: FileSystemMediaStore, spool: TempFiles, file_server: FileServer
) -> None:
    """Thousands of one tenant's leave the others most of the processor; its calls wait for none."""
    link = file_server.put("/picture", file(PICTURE))
    share = FairScheduler(lambda: 100.0)
    async with MediaDownloader(file_server.url, idle_timeout=lambda: 30.0) as fetcher:
        archiver = create_archiver(folder, spool, fetcher, share=share)
        rpc_context.bind_caller(rpc_context.Caller("a"))
        (alone,) = await archiver.archive(
            "gen_1", (StoredMedia(link, "image/png", EXPIRES),), ENDED
        )
        assert share.delay("a outputs") == 0
        share.record_request("a")
        share.record_request("b")
        (stored,) = await archiver.archive(
            "gen_2", (StoredMedia(link, "image/png", EXPIRES),), ENDED
        )
    assert alone.is_stored
    assert stored.is_stored
    assert share.delay("a outputs") == pytest.approx(ARCHIVE_SPACING_SECONDS)
    assert share.delay("a") == share.delay("b") == 0


def create_archiver(
    folder: FileSystemMediaStore,
    spool: TempFiles,
    fetcher: MediaDownloader,
    *,
    share: FairScheduler | None = None,
    seconds: float = 30.0,
    clock: JumpingClock | None = None,
) -> OutputArchiver:
    """A keeper of at most 1 MB by a clock that jumps."""
    clock = clock or JumpingClock()
    return OutputArchiver(
        folder,
        spool,
        fetcher,
        IsolatedProbe(),
        max_bytes=lambda: 10**6,
        timeout=lambda: seconds,
        now=clock.now,
        sleep=clock.sleep,
        scheduler=share or FairScheduler(),
    )
