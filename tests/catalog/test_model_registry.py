"""Models as upstream publishes them: read once, kept for a while, and told apart from failures."""

import asyncio
from typing import cast

import pytest

from mediagate_server.catalog.published_models import (
    CACHE_SECONDS,
    ModelReference,
    PublishedModelRegistry,
    PublishedModelVersion,
)
from mediagate_server.errors import InvalidRequest, MediagateError, Reason
from mediagate_server.upstream.port import (
    NoResponse,
    PublishedDeployment,
    PublishedModel,
    PublishedVersion,
    RefusalReason,
    RequestRefused,
    Upstream,
)

SCHEMA = {"components": {"schemas": {"Input": {"properties": {"a": {"type": "string"}}}}}}
DOWN = NoResponse("timeout")
GONE = RequestRefused(RefusalReason.NOT_FOUND, http_status=404)


class Publisher:
    """Says what it is told to, and counts."""

    def __init__(self) -> None:
        self.requested: list[str] = []
        self.failure: Exception | None = None
        self.official = False
        self.newest: str | None = "v2"
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.requested_event = asyncio.Event()

    async def get_model(self, slug: str) -> PublishedModel:
        await self._ask(slug)
        latest = PublishedVersion(self.newest, SCHEMA) if self.newest else None
        return PublishedModel(slug, self.official, latest, example_seconds=2.5)

    async def get_version(self, slug: str, version: str) -> PublishedVersion:
        await self._ask(f"{slug}:{version}")
        return PublishedVersion(version, SCHEMA)

    async def get_deployment(self, name: str) -> PublishedDeployment:
        await self._ask(f"deployments/{name}")
        return PublishedDeployment(name, "o/n", "v1", "gpu-t4")

    async def _ask(self, name: str) -> None:
        self.requested.append(name)
        self.requested_event.set()
        await self.go_on.wait()
        if self.failure is not None:
            raise self.failure


class Bench:
    """A publisher, a clock that is moved by hand, and what stands between."""

    def __init__(self) -> None:
        self.now = 100.0
        self.publisher = Publisher()
        self.models = PublishedModelRegistry(
            cast("Upstream", self.publisher), clock=lambda: self.now
        )

    async def find(self, name: str = "o/n") -> PublishedModelVersion:
        return await self.models.find(ModelReference.parse(name))

    async def reason(self, name: str = "o/n") -> Reason:
        with pytest.raises(MediagateError) as raised:
            await self.find(name)
        return raised.value.failure.reason


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_the_target_of_a_create(bench: Bench) -> None:
    """An official model by its slug, a community model by a version, a deployment by its name."""
    assert (await bench.find()).target == "o/n:v2"
    assert (await bench.find("o/n:v1")).target == "o/n:v1"
    deployment = await bench.find("deployments/o/d")
    assert (deployment.target, deployment.model) == ("deployments/o/d", "o/n")
    assert deployment.hardware == "gpu-t4"
    assert bench.publisher.requested[-3:] == ["deployments/o/d", "o/n", "o/n:v1"]
    bench.now += CACHE_SECONDS
    bench.publisher.official = True
    assert (await bench.find()).target == "o/n"


async def test_concurrent_lookups_share_one_request(bench: Bench) -> None:
    """Also where the first of them leaves before there is an answer."""
    bench.publisher.go_on.clear()
    tasks = [asyncio.create_task(bench.find()) for _ in range(20)]
    await bench.publisher.requested_event.wait()
    bench.publisher.go_on.set()
    assert len({task.target for task in await asyncio.gather(*tasks)}) == 1
    assert bench.publisher.requested == ["o/n"]


async def test_a_cancelled_lookup_does_not_cancel_the_others(bench: Bench) -> None:
    """The next in the row asks instead."""
    bench.publisher.go_on.clear()
    first, second = (asyncio.create_task(bench.find()) for _ in range(2))
    await bench.publisher.requested_event.wait()
    first.cancel()
    bench.publisher.go_on.set()
    assert (await second).target == "o/n:v2"
    assert bench.publisher.requested == ["o/n", "o/n"]


async def test_an_expired_model_is_read_again(bench: Bench) -> None:
    """And not before."""
    for passed, version, times in ((0, "v2", 1), (CACHE_SECONDS - 1, "v2", 1), (1, "v3", 2)):
        bench.now += passed
        assert (await bench.find()).target == f"o/n:{version}"
        assert len(bench.publisher.requested) == times
        bench.publisher.newest = "v3"


async def test_a_stale_model_is_used_while_upstream_is_unavailable(bench: Bench) -> None:
    """But not once upstream says that it is gone."""
    await bench.find()
    bench.now += CACHE_SECONDS
    bench.publisher.failure = DOWN
    assert (await bench.find()).target == "o/n:v2"
    bench.now += 10
    bench.publisher.failure = GONE
    assert await bench.reason() is Reason.MODEL_NOT_FOUND


@pytest.mark.parametrize(
    ("failure", "reason", "pause"),
    [
        (GONE, Reason.MODEL_NOT_FOUND, 30),
        (DOWN, Reason.UPSTREAM_UNAVAILABLE, 2),
        (RequestRefused(RefusalReason.THROTTLED, retry_after=7), Reason.UPSTREAM_UNAVAILABLE, 2),
        (RequestRefused(RefusalReason.ACCOUNT), Reason.UPSTREAM_ACCOUNT, 2),
    ],
)
async def test_failures_are_cached_briefly(
    bench: Bench, failure: Exception, reason: Reason, pause: float
) -> None:
    """So that a wrong name asked for a thousand times does not use up the account's rate."""
    bench.publisher.failure = failure
    for _ in range(5):
        assert await bench.reason() is reason
    assert len(bench.publisher.requested) == 1
    bench.now += pause
    bench.publisher.failure = None
    assert (await bench.find()).target == "o/n:v2"


async def test_a_community_model_without_a_version_cannot_be_run(bench: Bench) -> None:
    """It exists, but there is nothing in it."""
    bench.publisher.newest = None
    with pytest.raises(MediagateError) as raised:
        await bench.find()
    assert raised.value.failure.reason is Reason.INVALID_REQUEST
    assert [violation.field for violation in raised.value.failure.violations] == ["model"]


async def test_the_cache_is_bounded(bench: Bench) -> None:
    """Those not asked for longest go first."""
    await bench.find("o/first")
    for number in range(300):
        await bench.find(f"o/m{number}")
        await bench.find("o/first")
    assert bench.publisher.requested.count("o/first") == 1
    await bench.find("o/m0")
    assert bench.publisher.requested.count("o/m0") == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "o",
        "o/",
        "/n",
        "o/n/x",
        "o/n::",
        "o/n:a/b",
        "0" * 64,
        f"o/n:{'0' * 64}::",
        "../n",
        "o/..",
        "deployments/o",
        "o/n?",
        "ö/n",
    ],
)
def test_invalid_model_names(text: str) -> None:
    """Nothing else than a name may become a part of an address."""
    with pytest.raises(InvalidRequest):
        ModelReference.parse(text)


@pytest.mark.parametrize("text", ["o/n", "o-1/n.2_x", f"o/n:{'a' * 64}", "deployments/o/n"])
def test_model_names_round_trip(text: str) -> None:
    """All three forms."""
    assert str(ModelReference.parse(text)) == text


@pytest.mark.parametrize("text", ["o/n:", "deployments/o/n:"])
def test_an_empty_version_means_no_version(text: str) -> None:
    """As programs write it that do not know one."""
    assert str(ModelReference.parse(text)) == text[:-1]
