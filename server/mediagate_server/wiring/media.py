"""Wiring of the media module: the store of uploads and outputs, and the links to them."""

from contextlib import AsyncExitStack
from typing import Final

from mediagate_server.media.module import MediaModule
from mediagate_server.media.object_storage import BucketSettings
from mediagate_server.wiring.dependencies import ServerDeps

_MEDIA_KEY: Final = "media-url"
"""The store's name for the key that links to media are signed with."""


async def open_media(
    deps: ServerDeps, stack: AsyncExitStack, *, upstream_url: str, public_url: str
) -> MediaModule:
    """Open the media module. `public_url` is the public HTTP port's as callers reach it."""
    settings, clock = deps.settings, deps.clock
    media = MediaModule(
        settings.data_dir / "media",
        upstream_url,
        deps.live_settings.media_limits,
        now=clock.now,
        sleep=clock.sleep,
        bucket=BucketSettings.from_settings(settings),
        web=public_url,
        key=await deps.store.secret_key(_MEDIA_KEY),
        share=deps.scheduler,
        workers=deps.workers,
    )
    return await stack.enter_async_context(media)
