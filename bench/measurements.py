"""Measurements: each returns numbers by name, and raises where a response was not right."""

import re
import statistics
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import Message

from bench.h2load import LoadResult, Target, frame, load, loading, read
from bench.server_processes import RunningServer
from bench.servers_under_test import AVERAGE, MEDIAGATE
from bench.upstream_control import UpstreamControl
from bench.upstream_responses import MODEL, ResponseScript
from mediagate.v1 import text_pb2

Figures = Mapping[str, float]

PROMPT = "Why is the sky blue?"
UNARY_TOKENS = 10
_WARM_UP = 40
_SERIES = re.compile(r"^(\w+)(\{[^}]*\})? (\S+)$", re.MULTILINE)
_REFUSED = 'grpc_code="RESOURCE_EXHAUSTED"'
_WAITING = 3.0
_PATIENCE = 120.0


class WrongResponse(Exception):
    """A measurement of something that did not work: no figure is worth anything."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a measurement works with: the upstream, its process, and a folder for files."""

    control: UpstreamControl
    upstream: RunningServer
    folder: Path

    def unary(
        self, server: RunningServer, concurrency: int, seconds: float, *, succeeded: bool
    ) -> Figures:
        """GenerateText at a concurrency for about so many seconds, after a short warm-up."""
        script = ResponseScript(succeeded=succeeded, tokens=UNARY_TOKENS)
        target = self._generate(server)
        self.control.follow(script)
        first = load(
            target,
            requests=_WARM_UP + 8 * concurrency if succeeded else concurrency,
            concurrency=concurrency,
            folder=self.folder,
        )
        requests = max(int(first.rate * seconds), concurrency)
        self.control.follow(script)
        cpu, upstream_cpu, metrics = self._marks(server)
        outcome = load(target, requests=requests, concurrency=concurrency, folder=self.folder)
        cpu_after, upstream_after, metrics_after = self._marks(server)
        self.check(server, outcome, script, metrics, metrics_after)
        used = cpu_after - cpu
        return {
            "rps": outcome.rate,
            "p50_ms": outcome.percentile(0.50) * 1e3,
            "p99_ms": outcome.percentile(0.99) * 1e3,
            "cpu_us": used / requests * 1e6,
            "server_busy": used / outcome.seconds,
            "load_core_busy": (outcome.cpu + upstream_after - upstream_cpu) / outcome.seconds,
            **_commits(metrics, metrics_after, requests),
        }

    def burst(self, server: RunningServer, streams: int, tokens: int) -> Figures:
        """StreamText as fast as upstream and server can, many at once; from open to end."""
        script = ResponseScript(succeeded=False, tokens=tokens)
        self.control.follow(script)
        requests = streams * (1 if server.name == AVERAGE else 4) if streams > 1 else 20
        target = self._stream(server, tokens)
        cpu, upstream_cpu, metrics = self._marks(server)
        outcome = load(target, requests=requests, concurrency=streams, folder=self.folder)
        cpu_after, upstream_after, metrics_after = self._marks(server)
        self.check(server, outcome, script, metrics, metrics_after)
        return {
            "tokens_per_second": requests * tokens / outcome.seconds,
            "cpu_us_per_token": (cpu_after - cpu) / (requests * tokens) * 1e6,
            "p50_ms": outcome.percentile(0.50) * 1e3,
            "server_busy": (cpu_after - cpu) / outcome.seconds,
            "load_core_busy": (outcome.cpu + upstream_after - upstream_cpu) / outcome.seconds,
        }

    def concurrent_calls(self, server: RunningServer, calls: int) -> Figures:
        """So many GenerateText in one moment. Not all need be answered: that is the figure.

        `answered`, `refused` (RESOURCE_EXHAUSTED) and `uncounted` (ended by no handler that the
        server knows of) are shares of the calls; processor time is for each call that was answered.
        """
        self.control.follow(ResponseScript(tokens=UNARY_TOKENS))
        cpu, before = server.cpu_seconds(), scrape_metrics(server)
        outcome = load(
            self._generate(server), requests=calls, concurrency=calls, folder=self.folder
        )
        used, after = server.cpu_seconds() - cpu, scrape_metrics(server)
        good, counted, refused = (
            after[name] - before[name] for name in ("ok", "handled", "refused")
        )
        creates = self.control.counts()["creates"]
        if creates < good:
            raise WrongResponse(f"{good:.0f} OK of {creates} creates")
        return {
            "answered": max(good, 1) / calls,
            "refused": refused / calls,
            "uncounted": (calls - counted) / calls,
            "seconds": outcome.seconds,
            "p99_ms": outcome.percentile(0.99) * 1e3,
            "cpu_us": used / max(good, 1) * 1e6,
        }

    def reads(
        self, server: RunningServer, method: str, request: Message, seconds: float
    ) -> Figures:
        """A reading rpc, one call after the other, for about so many seconds."""
        message = frame(request.SerializeToString(), self.folder / "read.grpc")
        target = Target.method(server.address, method, message)
        first = load(target, requests=3, concurrency=1, folder=self.folder)
        requests = max(int(first.rate * seconds), 3)
        cpu, before = server.cpu_seconds(), scrape_metrics(server)
        outcome = load(target, requests=requests, concurrency=1, folder=self.folder)
        used, good = server.cpu_seconds() - cpu, scrape_metrics(server)["ok"] - before["ok"]
        if outcome.failed or good != requests:
            raise WrongResponse(f"{method}: {requests} calls, {good:.0f} OK")
        return {
            "p50_ms": outcome.percentile(0.50) * 1e3,
            "p99_ms": outcome.percentile(0.99) * 1e3,
            "cpu_us": used / requests * 1e6,
        }

    def fill(self, server: RunningServer, calls: int) -> None:
        """So many generations, made as callers make them.

        Nothing is measured, so calls that a starved machine has timed out are made once more.
        """
        self.control.follow(ResponseScript(tokens=UNARY_TOKENS))
        target, left = self._generate(server), calls
        while left:
            before = scrape_metrics(server)["ok"]
            load(target, requests=left, concurrency=min(128, left), folder=self.folder)
            good = round(scrape_metrics(server)["ok"] - before)
            if good < left / 2:
                raise WrongResponse(f"{left} calls, {good} OK")
            left -= good

    @contextmanager
    def open_silent_streams(self, server: RunningServer, streams: int) -> Iterator[None]:
        """Streams that are open and silent; nobody looks at what becomes of them."""
        self.control.follow(ResponseScript(succeeded=False, tokens=UNARY_TOKENS, held=True))
        target = self._stream(server, UNARY_TOKENS)
        with loading(target, requests=streams, concurrency=streams, folder=self.folder):
            reached = self.control.wait_for_streams(streams, _WAITING)
            if reached != streams:
                raise WrongResponse(f"{reached} of {streams} streams reached upstream")
            yield

    def paced(
        self, server: RunningServer, streams: int, interval: float, seconds: float
    ) -> Figures:
        """Processor time for each token of streams that speak at the pace of a model.

        The streams are open before the clock starts, so it is relaying that is measured.
        """
        tokens = round(seconds / interval)
        script = ResponseScript(succeeded=False, tokens=tokens, interval=interval, held=True)
        self.control.follow(script)
        target = self._stream(server, tokens)
        metrics = scrape_metrics(server)
        with loading(target, requests=streams, concurrency=streams, folder=self.folder) as process:
            reached = self.control.wait_for_streams(streams, _WAITING)
            before = server.cpu_seconds()
            self.control.go()
            output, _ = process.communicate(timeout=_PATIENCE)
        used = server.cpu_seconds() - before
        self.check(server, read(output, self.folder), script, metrics, scrape_metrics(server))
        return {
            "cpu_us_per_token": used / (streams * tokens) * 1e6,
            "reached_upstream": reached,
        }

    def idle(self, server: RunningServer, streams: int) -> Figures:
        """Memory of streams that are open and silent. `server` has just been started."""
        start = server.resident_kib()
        script = ResponseScript(succeeded=False, tokens=UNARY_TOKENS, held=True)
        self.control.follow(script)
        target = self._stream(server, UNARY_TOKENS)
        with loading(target, requests=streams, concurrency=streams, folder=self.folder) as process:
            reached = self.control.wait_for_streams(streams, _WAITING)
            kib_with_streams = server.resident_kib()
            self.control.go()
            if reached == streams:
                process.communicate(timeout=_PATIENCE)
        return {
            "start_mib": start / 1024,
            "with_streams_mib": kib_with_streams / 1024,
            "kib_per_stream": (kib_with_streams - start) / streams,
            "reached_upstream": reached,
        }

    def direct(self) -> Figures:
        """The upstream without anything before it, over the same load on the same core."""
        self.control.follow(ResponseScript(tokens=UNARY_TOKENS))
        body = self.folder / "create.json"
        body.write_text('{"input":{"prompt":"Why is the sky blue?","max_tokens":10}}')
        create = Target(f"{self.control.url}/v1/models/{MODEL}/predictions", body)
        creates = load(create, requests=20_000, concurrency=64, folder=self.folder)
        self.control.follow(ResponseScript(succeeded=False, tokens=1_000))
        stream = Target(f"{self.control.url}/stream/any")
        streams = load(stream, requests=1_000, concurrency=50, folder=self.folder)
        if creates.failed or streams.failed:
            raise WrongResponse("the upstream failed")
        return {
            "creates_per_second": creates.rate,
            "tokens_per_second": streams.requests * 1_000 / streams.seconds,
        }

    def _generate(self, server: RunningServer) -> Target:
        request = text_pb2.GenerateTextRequest(prompt=PROMPT, max_output_tokens=UNARY_TOKENS)
        message = frame(request.SerializeToString(), self.folder / "generate.grpc")
        return Target.method(server.address, "TextService/GenerateText", message)

    def _stream(self, server: RunningServer, tokens: int) -> Target:
        request = text_pb2.StreamTextRequest(prompt=PROMPT, max_output_tokens=tokens)
        message = frame(request.SerializeToString(), self.folder / "stream.grpc")
        return Target.method(server.address, "TextService/StreamText", message)

    def _marks(self, server: RunningServer) -> tuple[float, float, Figures]:
        return server.cpu_seconds(), self.upstream.cpu_seconds(), scrape_metrics(server)

    def check(
        self,
        server: RunningServer,
        outcome: LoadResult,
        script: ResponseScript,
        before: Figures,
        after: Figures,
    ) -> None:
        """Every call was answered, with the whole text, and went upstream exactly once."""
        if outcome.failed:
            raise WrongResponse(f"{server.name}: {outcome.failed} calls failed")
        missing = outcome.requests * script.text_bytes() - outcome.data
        # The pool of the SDK gives up on calls that wait too long; that is its answer then.
        if missing > 0 and server.name != AVERAGE:
            raise WrongResponse(f"{server.name}: {missing} bytes of text are missing")
        if server.name == MEDIAGATE:
            creates = self.control.counts()["creates"]
            good = after["ok"] - before["ok"]
            if not creates == good == outcome.requests:
                raise WrongResponse(f"{outcome.requests} calls, {creates} creates, {good:.0f} OK")


def scrape_metrics(server: RunningServer) -> Figures:
    """The server's own metrics; empty for the other servers."""
    if not server.operations:
        return {}
    with urllib.request.urlopen(f"http://{server.operations}/metrics") as answer:
        text = answer.read().decode()
    sums = dict.fromkeys(("ok", "refused", "handled", "commit_seconds", "commits"), 0.0)
    for name, labels, value in _SERIES.findall(text):
        if name == "grpc_server_handled_total":
            sums["handled"] += float(value)
            sums["ok"] += float(value) if 'grpc_code="OK"' in labels else 0
            sums["refused"] += float(value) if _REFUSED in labels else 0
        elif name == "mediagate_store_commit_seconds_sum":
            sums["commit_seconds"] += float(value)
        elif name == "mediagate_store_commit_seconds_count":
            sums["commits"] += float(value)
    return sums


def medians(samples: Iterable[Figures]) -> dict[str, float]:
    """The median of each number over several rounds."""
    rounds = list(samples)
    return {
        name: statistics.median(round_figures[name] for round_figures in rounds)
        for name in rounds[0]
    }


def _commits(before: Figures, after: Figures, requests: int) -> Figures:
    if not after:
        return {}
    commits = after["commits"] - before["commits"]
    return {
        "commit_ms": (after["commit_seconds"] - before["commit_seconds"]) / commits * 1e3,
        "commits_per_call": commits / requests,
    }
