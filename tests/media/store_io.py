"""Into a store and out of it."""

from mediagate_server.media.media_store import MediaStore
from mediagate_server.media.temp_files import TempFiles


async def put(store: MediaStore, spool: TempFiles, key: str, content: bytes) -> None:
    """Keep some bytes."""
    async with spool.create(len(content)) as incoming:
        await incoming.write(content)
        await incoming.finish()
        await store.put(key, incoming.path, {"word": key})


async def all_of(store: MediaStore, key: str, offset: int = 0, length: int = 1 << 40) -> bytes:
    """The bytes from an offset on."""
    return b"".join([piece async for piece in store.read(key, offset, length)])
