"""Registry of the models that upstream publishes: fetched on demand and cached.

Concurrent look-ups of one model share a fetch. Failures are cached too, for a short time, so that a
wrong name or an upstream that is down does not cost each request a call.
"""

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mediagate_server.catalog.schemas.openapi import ModelSchema
from mediagate_server.errors import (
    Failure,
    InvalidRequest,
    MediagateError,
    ModelNotFound,
    StoredFailure,
    UpstreamAccountError,
    UpstreamUnavailable,
)
from mediagate_server.upstream.port import (
    NoResponse,
    PublishedModel,
    PublishedVersion,
    RefusalReason,
    RequestRefused,
    Upstream,
)

CACHE_SECONDS: Final = 600.0
"""Cache lifetime in seconds. Official schemas change rarely, the newest version of a community
model whenever its owner pushes one."""
_NOT_FOUND_CACHE_SECONDS: Final = 30.0
_FAILURE_CACHE_SECONDS: Final = 2.0
_MAX_ENTRIES: Final = 256
"""Cached models, evicted in LRU order. A document is about 50 kB."""
_NAME: Final = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"
_VERSION_ALONE: Final = re.compile(r"[0-9a-fA-F]{64}")
_REFERENCE: Final = re.compile(
    rf"(?:(?P<deployment>deployments/{_NAME}/{_NAME})"
    rf"|(?P<slug>(?!deployments/){_NAME}/{_NAME})(?::(?P<version>[A-Za-z0-9_-]{{1,128}}))?)"
)


@dataclass(frozen=True, slots=True)
class ModelReference:
    """Model reference: `owner/name`, with or without a version, or a deployment.

    `slug` is owner/name, of the model or of the deployment.
    """

    slug: str
    version: str = ""
    is_deployment: bool = False

    @classmethod
    def parse(cls, text: str) -> "ModelReference":
        """Parse a reference. Raises InvalidRequest, naming `model`."""
        if _VERSION_ALONE.fullmatch(text):
            message = (
                "is a version alone: write owner/name:version, so that its inputs can be checked"
            )
            raise InvalidRequest.of("model", message)
        # An empty version is none: programs write the colon before they know it.
        match = _REFERENCE.fullmatch(text.removesuffix(":"))
        if match is None:
            raise InvalidRequest.of(
                "model", "must be owner/name, owner/name:version or deployments/owner/name"
            )
        if match["deployment"]:
            return cls(match["deployment"].partition("/")[2], is_deployment=True)
        return cls(match["slug"], match["version"] or "")

    def __str__(self) -> str:
        if self.is_deployment:
            return f"deployments/{self.slug}"
        return f"{self.slug}:{self.version}" if self.version else self.slug


@dataclass(frozen=True, slots=True)
class PublishedModelVersion:
    """Runnable version of a published model.

    `name` is what callers and records see, `target` the target of a create request, `model` the
    owner/name behind a deployment. `hardware` is a SKU; empty where upstream does not say.
    `is_private`: only its owner may run it. `usual_seconds` is the run time of the run shown as its
    example.
    """

    name: str
    target: str
    model: str
    schema: ModelSchema
    is_official: bool = False
    is_deployment: bool = False
    is_private: bool = False
    hardware: str = ""
    usual_seconds: float | None = None

    @property
    def bills_idle_time(self) -> bool:
        """Whether its hardware is also billed while it starts and is idle, which no run's metrics
        contain. Official models are billed by their output, on any hardware.
        """
        return not self.is_official and (self.is_deployment or self.is_private)


@dataclass(slots=True)
class _Entry:
    """Cache entry: the model that was fetched, or the failure, and its expiry."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    model: PublishedModelVersion | None = None
    failure: Failure | None = None
    expires_at: float = 0.0


class PublishedModelRegistry:
    """Cached look-up of published models by reference. For one event loop; `clock` counts seconds.

    `knows_official` says of an owner/name whether the catalog has it as an official model; None:
    the catalog does not have it. `suggest` gives similar names.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        clock: Callable[[], float] = time.monotonic,
        knows_official: Callable[[str], bool | None] = lambda _: None,
        suggest: Callable[[str], tuple[str, ...]] = lambda _: (),
    ) -> None:
        self._upstream = upstream
        self._clock = clock
        self._knows_official = knows_official
        self._suggest = suggest
        self._entries: OrderedDict[ModelReference, _Entry] = OrderedDict()

    async def find(self, reference: ModelReference) -> PublishedModelVersion:
        """Find a model. Raises ModelNotFound, InvalidRequest where it has no version, or
        UpstreamUnavailable.

        While upstream is unavailable, a cached model stays valid.
        """
        entry = self._entries.setdefault(reference, _Entry())
        self._entries.move_to_end(reference)
        while len(self._entries) > _MAX_ENTRIES:
            self._entries.popitem(last=False)
        if self._clock() >= entry.expires_at:
            async with entry.lock:  # waiters find the result of the first fetch
                if self._clock() >= entry.expires_at:
                    await self._refresh(reference, entry)
        if entry.model is not None:
            return entry.model
        if entry.failure is None:
            raise RuntimeError("an entry that was read holds neither a model nor a failure")
        raise StoredFailure(entry.failure)

    async def _refresh(self, reference: ModelReference, entry: _Entry) -> None:
        try:
            model = await self._fetch(reference)
        except (RequestRefused, NoResponse) as error:
            failure, is_absent = self._lookup_failure(reference, error)
            entry.failure = failure.failure
            if is_absent:
                entry.model = None
            lifetime = _NOT_FOUND_CACHE_SECONDS if is_absent else _FAILURE_CACHE_SECONDS
        except InvalidRequest as error:
            entry.failure, entry.model, lifetime = error.failure, None, _NOT_FOUND_CACHE_SECONDS
        else:
            entry.failure, entry.model, lifetime = None, model, CACHE_SECONDS
        entry.expires_at = self._clock() + lifetime

    async def _fetch(self, reference: ModelReference) -> PublishedModelVersion:
        if reference.is_deployment:
            return await self._fetch_deployment(reference)
        if reference.version:
            return await self._fetch_version(reference)
        return self._newest_version(await self._upstream.get_model(reference.slug))

    def _newest_version(self, model: PublishedModel) -> PublishedModelVersion:
        """The newest version of a model."""
        official = self._is_official(model)
        if model.latest is None and not official:
            raise InvalidRequest.of("model", "has no version that can be run")
        newest = model.latest.id if model.latest else ""
        return PublishedModelVersion(
            name=model.slug,
            target=model.slug if official else f"{model.slug}:{newest}",
            model=model.slug,
            schema=_model_schema(model.latest),
            is_official=official,
            is_private=model.is_private,
            usual_seconds=model.example_seconds,
        )

    def _is_official(self, model: PublishedModel) -> bool:
        """Whether a model is official. Where its document does not say, the catalog may know; and
        only official models have no versions.
        """
        if model.is_official is not None:
            return model.is_official
        is_official = self._knows_official(model.slug)
        return model.latest is None if is_official is None else is_official

    async def _fetch_version(self, reference: ModelReference) -> PublishedModelVersion:
        """A model at one version. Upstream does not show versions of official models."""
        try:
            version = await self._upstream.get_version(reference.slug, reference.version)
        except RequestRefused as refused:
            if not refused.is_not_found:
                raise
            model = await self._upstream.get_model(reference.slug)
            if model.latest and model.latest.id == reference.version:
                return self._newest_version(model)
            if not self._is_official(model):
                raise
            message = f"is an official model, which has no versions to choose: write {model.slug}"
            raise InvalidRequest.of("model", message) from refused
        return PublishedModelVersion(
            name=reference.slug,
            target=str(reference),
            model=reference.slug,
            schema=_model_schema(version),
        )

    async def _fetch_deployment(self, reference: ModelReference) -> PublishedModelVersion:
        deployment = await self._upstream.get_deployment(reference.slug)
        model = await self._upstream.get_model(deployment.model)
        version = model.latest
        if deployment.version and (version is None or version.id != deployment.version):
            version = await self._deployed_version(model, deployment.version)
        return PublishedModelVersion(
            name=str(reference),
            target=str(reference),
            model=model.slug,
            schema=_model_schema(version),
            is_official=self._is_official(model),
            is_deployment=True,
            is_private=model.is_private,
            hardware=deployment.hardware,
            usual_seconds=model.example_seconds,
        )

    async def _deployed_version(
        self, model: PublishedModel, version: str
    ) -> PublishedVersion | None:
        """The version of a deployment; the model's newest where upstream does not show it."""
        try:
            return await self._upstream.get_version(model.slug, version)
        except RequestRefused as refused:
            if not refused.is_not_found:
                raise
            return model.latest if self._is_official(model) else None

    def _lookup_failure(
        self, reference: ModelReference, error: RequestRefused | NoResponse
    ) -> tuple[MediagateError, bool]:
        """The caller's error, and whether it means that the model does not exist."""
        metadata = {"model": str(reference)}
        if isinstance(error, RequestRefused):
            if error.is_not_found or error.refusal is RefusalReason.INPUT:
                return ModelNotFound(str(reference), nearest=self._suggest(reference.slug)), True
            if error.refusal is RefusalReason.ACCOUNT:
                message = "upstream refuses the server's account"
                return UpstreamAccountError(message, metadata=metadata, retry_after=60.0), False
            if error.refusal is RefusalReason.UNREACHABLE:
                return UpstreamUnavailable.unreachable(metadata), False
        retry_after = error.retry_after if isinstance(error, RequestRefused) else None
        message = "what the model takes cannot be read from upstream now"
        return UpstreamUnavailable(
            message, metadata=metadata, retry_after=retry_after or 5.0
        ), False


def _model_schema(version: PublishedVersion | None) -> ModelSchema:
    """Schema of a version; empty where none is published."""
    return ModelSchema(version.schema if version else {})
