"""Wiring of the generation engine, and of the media module that it keeps its outputs in."""

from contextlib import AsyncExitStack
from typing import Final

from mediagate_server.config import Settings
from mediagate_server.generations.dependencies import EngineDeps, EngineTimeouts, no_webhook_url
from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.generations.outputs.json_validation_process import JsonAnswerValidator
from mediagate_server.media.module import MediaModule
from mediagate_server.media.object_storage import BucketSettings
from mediagate_server.runtime.crash_marks import CrashMarks
from mediagate_server.upstream.replicate.webhook_verification import WebhookUrls
from mediagate_server.wiring.dependencies import ServerDeps
from mediagate_server.wiring.upstream import UpstreamConnection

_HASH_KEY: Final = "input-hash"
"""The store's name for the key of hashes that stand for a request's inputs."""
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
        deps.media_limits,
        now=clock.now,
        sleep=clock.sleep,
        bucket=BucketSettings.from_settings(settings),
        web=public_url,
        key=await deps.store.secret_key(_MEDIA_KEY),
        share=deps.scheduler,
        workers=deps.workers,
    )
    return await stack.enter_async_context(media)


async def open_generations(
    deps: ServerDeps,
    stack: AsyncExitStack,
    upstream: UpstreamConnection,
    media: MediaModule,
    webhook_urls: WebhookUrls | None,
) -> GenerationEngine:
    """Start the engine, which recovers what an earlier process left unfinished.

    `webhook_urls`: where upstream sends its webhooks; None: nowhere.
    """
    settings = deps.settings
    engine_deps = EngineDeps(
        deps.store,
        upstream.client,
        upstream.client.admission,
        media.archiver,
        account=settings.upstream_account,
        is_account_exclusive=settings.upstream_exclusive,
        is_playback=settings.upstream_playback,
        is_sandbox=upstream.is_sandbox,
        creates_per_second=settings.creates_per_minute / 60,
        clock=deps.clock,
        read_json_answer=JsonAnswerValidator(deps.workers).read,
        crash_marks=stack.enter_context(CrashMarks(settings.data_dir / "crash-marks")),
        hash_key=await deps.store.secret_key(_HASH_KEY),
        timeouts=engine_timeouts(settings),
        webhook_url=webhook_urls.url_for if webhook_urls else no_webhook_url,
    )
    engine = GenerationEngine(
        engine_deps,
        max_in_flight=deps.limits.max_in_flight,
        retention=deps.retention,
    )
    return await stack.enter_async_context(engine)


def engine_timeouts(settings: Settings) -> EngineTimeouts:
    """Timeouts of the generation engine. Read once, when a server starts: no reload changes any of
    it.
    """
    return EngineTimeouts(
        post_timeout=settings.upstream_create_timeout,
        absent_margin=settings.absent_margin,
        api_error_margin=settings.api_error_margin,
        sweep=settings.sweep_seconds,
        first_sweep=min(1.0, settings.sweep_seconds),
        reconcile=settings.reconcile_seconds,
    )
