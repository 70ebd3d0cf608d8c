"""The operations port through the wire: metrics that tools accept, life, readiness."""

import asyncio
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import aiohttp
import pytest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from mediagate_server.http.servers import OperationsHttpServer
from mediagate_server.observability import metrics

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
TEXT = "text/plain; version=0.0.4"


class Answer:
    """What came back, whole."""

    def __init__(self, status: int, content_type: str, text: str) -> None:
        self.status = status
        self.content_type = content_type
        self.text = text


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def get(port: OperationsHttpServer, path: str, method: str = "GET", **headers: str) -> Answer:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://{port.address}{path}", headers=headers) as answer,
    ):
        return Answer(answer.status, answer.headers["Content-Type"], await answer.text())


def touch_every_metric() -> None:
    """A child of everything that has labels, so that every name is in the answer."""
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase) and metric._labelnames:
            metric.labels(*("other" for _ in metric._labelnames))


async def test_liveness_and_readiness(stack: AsyncExitStack) -> None:
    """Life is answering; readiness follows what the server says, with its reason."""
    reasons = ["store is opening"]
    port = await stack.enter_async_context(OperationsHttpServer("127.0.0.1:0", lambda: reasons[-1]))
    alive = await get(port, "/healthz")
    assert (alive.status, alive.text) == (200, "alive\n")
    waiting = await get(port, "/readyz")
    assert (waiting.status, waiting.text) == (503, "store is opening\n")
    reasons.append("")
    ready = await get(port, "/readyz")
    assert (ready.status, ready.text) == (200, "ready\n")


@pytest.mark.parametrize(
    ("accept", "content_type", "read"),
    [
        (OPENMETRICS, "application/openmetrics-text", read_openmetrics),
        (TEXT, "text/plain", read_text),
    ],
)
async def test_metrics_content_negotiation(
    stack: AsyncExitStack,
    accept: str,
    content_type: str,
    read: Callable[[str], object],
) -> None:
    """OpenMetrics where the scraper takes it, else text; both can be read back."""
    touch_every_metric()
    port = await stack.enter_async_context(OperationsHttpServer("127.0.0.1:0", lambda: ""))
    answer = await get(port, "/metrics", Accept=accept)
    assert answer.status == 200
    assert answer.content_type.startswith(content_type)
    names = {family.name for family in read(answer.text)}  # type: ignore[attr-defined]
    assert {"grpc_server_handled", "mediagate_cost_usd_nanos"} <= {
        name.removesuffix("_total") for name in names
    }


async def test_promtool_accepts_the_metrics(
    stack: AsyncExitStack, require: Callable[[str], str]
) -> None:
    """Names, units and help are as Prometheus wants them."""
    promtool = require("promtool")
    touch_every_metric()
    port = await stack.enter_async_context(OperationsHttpServer("127.0.0.1:0", lambda: ""))
    answer = await get(port, "/metrics", Accept=TEXT)
    checking = await asyncio.create_subprocess_exec(
        promtool, "check", "metrics", stdin=PIPE, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await checking.communicate(answer.text.encode())
    assert (checking.returncode, said) == (0, b"")


async def test_other_paths_and_methods_are_refused(stack: AsyncExitStack) -> None:
    """No other path, no other method."""
    port = await stack.enter_async_context(OperationsHttpServer("127.0.0.1:0", lambda: ""))
    assert (await get(port, "/")).status == 404
    assert (await get(port, "/metrics", method="POST")).status == 405


async def test_ipv6(stack: AsyncExitStack) -> None:
    """An IPv6 address keeps its brackets."""
    try:
        port = await stack.enter_async_context(OperationsHttpServer("[::1]:0", lambda: ""))
    except OSError as error:
        pytest.skip(f"missing: IPv6 on this machine ({error.strerror})")
    assert port.address.startswith("[::1]:")
    assert (await get(port, "/healthz")).status == 200


async def test_a_port_in_use(stack: AsyncExitStack) -> None:
    """OSError, and nothing is left open."""
    port = await stack.enter_async_context(OperationsHttpServer("127.0.0.1:0", lambda: ""))
    with pytest.raises(OSError, match="in use"):
        await stack.enter_async_context(OperationsHttpServer(port.address, lambda: ""))
    assert (await get(port, "/healthz")).status == 200
