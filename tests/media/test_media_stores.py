"""What every store does, the folder and S3 (played by moto's server): the same tests for both."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import httpx
import pytest
from aiohttp import web

from mediagate_server.media.media_store import CHUNK_BYTES, MediaStore, StorageFailed, StoredFile
from mediagate_server.media.object_storage import BucketSettings, ObjectStorageMediaStore
from mediagate_server.media.temp_files import TempFiles
from mediagate_server.structs import replace

from .store_io import all_of, put


async def test_stored_media_are_read_back(store: MediaStore, spool: TempFiles) -> None:
    """Bytes and notes, from anywhere to anywhere, in pieces."""
    content = bytes(range(256)) * 4_000
    await put(store, spool, "outputs/gen_1/0", content)
    assert await store.find("outputs/gen_1/0") == StoredFile(
        len(content), {"word": "outputs/gen_1/0"}
    )
    pieces = [piece async for piece in store.read("outputs/gen_1/0", 0, len(content))]
    assert max(map(len, pieces)) <= CHUNK_BYTES
    assert b"".join(pieces) == content
    for offset, length in ((0, 1), (255, 2), (1_000_000, 10**9), (len(content), 5), (7, 0)):
        expected = content[offset : offset + length]
        assert await all_of(store, "outputs/gen_1/0", offset, length) == expected


async def test_a_second_put_replaces_the_first(store: MediaStore, spool: TempFiles) -> None:
    """As after a crash between keeping and saying so."""
    await put(store, spool, "a/b", b"first, longer")
    await put(store, spool, "a/b", b"second")
    assert await all_of(store, "a/b") == b"second"


async def test_deletion(store: MediaStore, spool: TempFiles) -> None:
    """One key, or all below one; twice is no harm."""
    for key in ("outputs/gen_1/0", "outputs/gen_1/1", "outputs/gen_2/0"):
        await put(store, spool, key, b"x")
    await store.delete("outputs/gen_1")
    await store.delete("outputs/gen_1")
    assert await store.find("outputs/gen_1/0") is None
    assert await store.keys("outputs/gen_2") == ("outputs/gen_2/0",)
    await store.delete("outputs/gen_2/0")
    assert await store.keys("outputs/gen_2") == ()
    assert await store.keys("nowhere") == ()
    with pytest.raises(StorageFailed):
        await all_of(store, "outputs/gen_1/0")


@pytest.mark.parametrize("key", ["../a", "a/../b", "/etc", "a//b", "a/", "", "a b", "a.notes", "é"])
async def test_keys_cannot_leave_the_folder(store: MediaStore, key: str) -> None:
    """It would be a bug of ours, so it is no storage failure."""
    with pytest.raises(ValueError, match="no key"):
        await store.find(key)


async def test_a_large_file_is_uploaded_in_parts(store: MediaStore, spool: TempFiles) -> None:
    """And comes back whole, or from its middle."""
    content = hashlib.sha256(b"x").digest() * 700_000
    await put(store, spool, "outputs/gen_1/0", content)
    assert await all_of(store, "outputs/gen_1/0") == content
    middle = await all_of(store, "outputs/gen_1/0", 10_000_000, 3)
    assert middle == content[10_000_000:10_000_003]


async def test_a_cancelled_upload_leaves_no_part(bucket: BucketSettings, spool: TempFiles) -> None:
    """In the midst of a large file: nothing is kept, and nothing is left of what was sent."""
    storage, listed = ObjectStorageMediaStore(bucket), f"{bucket.endpoint}/{bucket.name}?uploads"
    async with httpx.AsyncClient() as client, spool.create(1 << 30) as incoming:
        for _ in range(100):
            await incoming.write(bytes(1 << 20))
        await incoming.finish()
        putting = asyncio.ensure_future(storage.put("outputs/gen_1/0", incoming.path, {}))
        while "<Upload>" not in (await client.get(listed)).text:
            assert not putting.done()
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert "<Upload>" not in (await client.get(listed)).text
        assert await storage.find("outputs/gen_1/0") is None
        await storage.put("outputs/gen_1/0", incoming.path, {})
    assert (await storage.find("outputs/gen_1/0")) == StoredFile(100 << 20, {})


async def test_keys_with_a_common_prefix(store: MediaStore, spool: TempFiles) -> None:
    """Deleting one takes nothing of the other."""
    for key in ("outputs/gen_1/0", "outputs/gen_10/0", "outputs/gen_1/10"):
        await put(store, spool, key, b"x")
    await store.delete("outputs/gen_1/1")
    await store.delete("outputs/gen_1/0")
    assert await store.keys("outputs/gen_1") == ("outputs/gen_1/10",)
    await store.delete("outputs/gen_1")
    assert await store.keys("outputs/gen_10") == ("outputs/gen_10/0",)


@asynccontextmanager
async def refusing(s3: str, *refused: str) -> AsyncIterator[str]:
    """The URL of an S3 that deletes no object of these names, and does all else."""
    async with httpx.AsyncClient() as client:

        async def pass_on(request: web.Request) -> web.Response:
            if request.method == "DELETE" and request.path.endswith(refused):
                return web.Response(status=403)
            answer = await client.request(
                request.method,
                f"{s3}{request.raw_path}",
                headers=list(request.headers.items()),
                content=await request.read(),
            )
            kind = {"Content-Type": answer.headers.get("Content-Type", "text/xml")}
            return web.Response(status=answer.status_code, body=answer.content, headers=kind)

        app = web.Application()
        app.router.add_route("*", "/{any:.*}", pass_on)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            yield f"http://{host}:{port}"
        finally:
            await runner.cleanup()


async def test_an_undeletable_object_does_not_block_others(
    bucket: BucketSettings, spool: TempFiles
) -> None:
    """Of a generation's outputs all go that can; asking again takes the rest."""
    storage = ObjectStorageMediaStore(bucket)
    for index in range(40):
        await put(storage, spool, f"outputs/gen_1/{index}", b"x")
    async with refusing(bucket.endpoint, "/0", "/12") as front:
        for _ in range(2):
            with pytest.raises(StorageFailed):
                await ObjectStorageMediaStore(replace(bucket, endpoint=front)).delete(
                    "outputs/gen_1"
                )
            assert await storage.keys("outputs/gen_1") == ("outputs/gen_1/0", "outputs/gen_1/12")
    await storage.delete("outputs/gen_1")
    assert await storage.keys("outputs/gen_1") == ()


async def test_presigned_urls_of_object_storage(bucket: BucketSettings, spool: TempFiles) -> None:
    """Whoever has one reads the file, or a part of it, without a key, as what it is."""
    storage = ObjectStorageMediaStore(bucket)
    async with spool.create(10) as incoming:
        await incoming.write(b"0123456789")
        await incoming.finish()
        await storage.put("outputs/gen_1/0", incoming.path, {"media_type": "video/mp4"})
    link = await storage.link("outputs/gen_1/0", 60)
    assert "X-Amz-Expires=60" in link
    async with (
        aiohttp.ClientSession(headers={"Range": "bytes=2-4"}) as session,
        session.get(link) as answer,
    ):
        assert (answer.status, await answer.read()) == (206, b"234")
        assert answer.headers["Content-Type"] == "video/mp4"
    assert await storage.find("outputs/gen_1/0") == StoredFile(10, {"media_type": "video/mp4"})


async def test_unavailable_storage(bucket: BucketSettings, spool: TempFiles) -> None:
    """A typed failure that says nothing of where it is; the file is not lost."""
    away = BucketSettings("nowhere", "", "http://127.0.0.1:9", "us-east-1", "a", "b")
    absent = replace(bucket, name="there-is-no-such-bucket")
    for storage in map(ObjectStorageMediaStore, (away, absent)):
        async with spool.create(10) as incoming:
            await incoming.write(b"0123456789")
            await incoming.finish()
            with pytest.raises(StorageFailed) as caught:
                await storage.put("outputs/gen_1/0", incoming.path, {})
            assert incoming.path.read_bytes() == b"0123456789"
        assert "127.0.0.1" not in str(caught.value)
        with pytest.raises(StorageFailed):
            await all_of(storage, "a/b")
    storage = ObjectStorageMediaStore(away)
    for ask in (storage.find, storage.keys, storage.delete):
        with pytest.raises(StorageFailed):
            await ask("a/b")
