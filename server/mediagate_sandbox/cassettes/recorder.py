"""Recorder: a proxy in front of Replicate's API that writes what passes into a cassette.

Clients see local links only, so that streams and downloads pass here as well. Nothing of a request
is recorded before its response is there whole.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp
from aiohttp import web

from mediagate_sandbox.api_errors import ApiError, not_found
from mediagate_sandbox.cassettes import webhook_relay
from mediagate_sandbox.cassettes.file_responses import file_response
from mediagate_sandbox.cassettes.json_strings import parse_json, rewrite_strings
from mediagate_sandbox.cassettes.links import LinkTable, event_data, is_link, rewrite_event
from mediagate_sandbox.cassettes.recorded_runs import (
    NOT_RECORDED,
    OutputDownloads,
    RecordedRun,
    RecordedRuns,
    links_of,
)
from mediagate_sandbox.cassettes.recording import Recording
from mediagate_sandbox.cassettes.redaction import secret_strings
from mediagate_sandbox.cassettes.requests import SECRET_PATH, create_target
from mediagate_sandbox.cassettes.run_schemas import UNKNOWN, RunSchema, SchemaReader
from mediagate_sandbox.cassettes.stream_tap import STREAM_HEADERS, StreamTap, is_final
from mediagate_sandbox.cassettes.upstream_client import UpstreamClient, UpstreamResponse
from mediagate_sandbox.cassettes.webhook_relay import WebhookRelay
from mediagate_sandbox.clock import Clock
from mediagate_sandbox.json_response import respond_json
from mediagate_sandbox.middleware.auth import origin_of
from mediagate_sandbox.settings import SandboxSettings

log = logging.getLogger("mediagate.sandbox")

_NOT_RETURNED = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding"}
    | {"trailer", "upgrade", "date", "server", "strict-transport-security", "alt-svc"}
)
_STREAM_PAUSE = 0.5
"""Seconds until a stream is opened again that was closed before its end."""

_STREAM_SECONDS = 5.0
"""How long the streams of runs that have ended are read on when the recorder stops."""

_LINK_HEADERS = ("location", "link")


@dataclass(frozen=True, slots=True)
class _Exchange:
    """What a request and its response are about."""

    private: frozenset[str]
    """Strings that are secret in both."""
    links: tuple[str, ...] = ()
    """Recorded links of its files."""


class Recorder:
    """Request handler of a recording proxy."""

    def __init__(
        self,
        client: UpstreamClient,
        recording: Recording,
        relay: WebhookRelay,
        clock: Clock,
        settings: SandboxSettings,
    ) -> None:
        """Record what `client` gets; the caller closes both, after `finish`."""
        self._client = client
        self._recording = recording
        self._relay = relay
        self._clock = clock
        self._settings = settings
        self._links = LinkTable(client.origin)
        self._schemas = SchemaReader(client)
        self._runs = RecordedRuns(self._look, self.spawn)
        self._downloads = OutputDownloads(
            client, self._links, recording.media, recording.file, self.spawn
        )
        self._taps: dict[str, StreamTap] = {}
        self._streams: dict[str, asyncio.Task[None]] = {}
        self._run_of_stream: dict[str, str] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` in a task, until it ends or the recorder stops."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def finish(self, seconds: float) -> None:
        """Record the rest: the ends of runs that nobody asked for, files under way; then stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._runs.look_at_unended()
                streams = [task for run, task in self._streams.items() if self._has_ended(run)]
                if streams:
                    await asyncio.wait(streams, timeout=_STREAM_SECONDS)
                await self._downloads.wait_for_all()
        except TimeoutError:
            log.warning("some files were not there in time: their runs will not be replayed")
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _has_ended(self, prediction: str) -> bool:
        run = self._runs.find(prediction)
        return run is not None and run.has_ended

    def state(self) -> dict[str, Any]:
        """Return what was recorded so far, for `/sandbox/cassette`."""
        return {
            "mode": "record",
            "upstream": self._client.origin,
            "exchanges": self._recording.exchanges,
            "complete": self._recording.is_complete,
        }

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, by upstream's response."""
        if request.path.startswith(webhook_relay.PATH):
            return await self._relay_webhook(request)
        link = self._links.find(request.raw_path)
        if link is not None:
            url, recorded = link
            file = await self._downloads.wait(recorded)
            if file is None:
                return await self._stream(request, recorded)
            if file.status == NOT_RECORDED:
                return web.Response(status=302, headers={"Location": url})
            return await file_response(request, file.status, file.headers, file.file)
        if not request.path.startswith("/v1/"):
            raise not_found()
        # Whoever leaves has paid for the run all the same: it is recorded.
        raw = await request.read()
        return await asyncio.shield(self.spawn(self._exchange(request, raw)))

    async def _exchange(self, request: web.Request, raw: bytes) -> web.Response:
        at, origin, headers = self._recording.now(), self._origin(request), dict(request.headers)
        self._recording.redactor.learn_headers(headers)
        self._recording.redactor.learn_query(request.raw_path)
        is_json = not request.content_type.startswith("multipart/")
        body = rewrite_strings(raw, self._links.restore(origin)) if is_json else raw
        document = parse_json(body) if is_json else None
        self._recording.redactor.learn_document(document)
        target = create_target(request.method, request.path, document)
        sent = body if target is None else self._redirect_webhook(body, document, request)
        response = await self._send(request, headers, sent)
        took = round(self._recording.now() - at, 4)
        exchange = await self._examine(target, document, parse_json(response.body), headers)
        if request.path == SECRET_PATH:
            return self._webhook_secret(response)
        self._recording.exchange(
            at,
            request.method,
            request.raw_path,
            headers,
            body,
            response,
            took=took,
            private=exchange.private,
            links=exchange.links,
        )
        return self._response(response, origin)

    async def _send(
        self, request: web.Request, headers: Mapping[str, str], body: bytes
    ) -> UpstreamResponse:
        try:
            response = await self._client.send(request.method, request.raw_path, headers, body)
        except (aiohttp.ClientError, OSError) as failure:
            raise _no_answer(failure) from failure
        cookies = {k: v for k, v in response.headers.items() if k.lower() == "set-cookie"}
        self._recording.redactor.learn_headers(cookies)
        return response

    def _redirect_webhook(self, body: bytes, document: Any, request: web.Request) -> bytes:
        webhook = document.get("webhook") if isinstance(document, dict) else None
        if not isinstance(webhook, str):
            return body
        self._recording.redactor.learn_webhook(webhook)
        return self._relay.redirect(body, webhook, self._origin(request), dict(request.headers))

    def _webhook_secret(self, response: UpstreamResponse) -> web.Response:
        """Answer with the secret that webhooks reach their receivers by; it is not recorded."""
        document = parse_json(response.body)
        if self._relay.is_used and response.status == 200:
            return respond_json({"key": self._relay.secret})
        if isinstance(document, dict) and isinstance(document.get("key"), str):
            self._recording.redactor.learn((document["key"],))
        return self._response(response, "")

    async def _examine(
        self, target: str | None, sent: Any, answered: Any, headers: Mapping[str, str]
    ) -> _Exchange:
        """Find out what an exchange is about, and notice the state of a run that it shows."""
        private = secret_strings(sent)
        document = answered if _is_prediction(answered) else None
        schema: RunSchema | None = None
        if target is not None or document is not None:
            schema = await self._schema(target, document or {}, headers)
            private |= self._secrets(schema, sent) | self._secrets(schema, answered)
        else:
            private |= UNKNOWN.secrets(sent.get("input")) if isinstance(sent, dict) else set()
            for each in _listed_predictions(answered):
                private |= self._secrets(await self._schema(None, each, headers), each)
        if document is None or schema is None:
            return _Exchange(frozenset(private))
        self._runs.add(document, schema, headers)
        return _Exchange(frozenset(private), tuple(self._notice(document, schema)))

    def _secrets(self, schema: RunSchema, document: Any) -> set[str]:
        """Return the secrets in a document's input; they are taken out of all that follows."""
        given = document.get("input") if isinstance(document, dict) else None
        found = schema.secrets(given)
        if schema is not UNKNOWN:
            self._recording.redactor.learn(found)
        return found | secret_strings(given)

    async def _schema(
        self, target: str | None, document: Mapping[str, Any], headers: Mapping[str, str]
    ) -> RunSchema:
        known = self._runs.find(str(document.get("id")))
        if known is not None:
            return known.schema
        if target is not None and target.startswith("deployments/"):
            return await self._schemas.of_deployment(target.removeprefix("deployments/"), headers)
        version = document.get("version")
        if target is not None and "/" not in target:
            version = target
        return await self._schemas.read(document.get("model") or target, version, headers)

    def _notice(self, document: Mapping[str, Any], schema: RunSchema) -> list[str]:
        """Notice one state of a run: its stream and its files; recorded links of these."""
        if self._runs.find(document["id"]) is None:
            return []
        stream = document["urls"].get("stream")
        if isinstance(stream, str) and is_link(stream) and self._client.may_download(stream):
            recorded = self._links.add(stream, is_stream=True)
            if recorded not in self._taps:
                self._taps[recorded] = StreamTap(stream, partial(self._record_event, recorded))
                self._run_of_stream[recorded] = document["id"]
                self._streams[document["id"]] = self.spawn(self._read_stream(recorded))
        links = self._downloads.add(links_of(document, schema))
        self._runs.observe(document)
        return links

    def _response(self, response: UpstreamResponse, origin: str) -> web.Response:
        """Return upstream's response to the client, with local links."""
        localize = self._links.localize(origin)
        headers = {
            name: localize("get", value) if name.lower() in _LINK_HEADERS else value
            for name, value in response.headers.items()
            if name.lower() not in _NOT_RETURNED
        }
        body = self._local_body(response.body, origin)
        return web.Response(status=response.status, headers=headers, body=body)

    def _local_body(self, body: bytes, origin: str) -> bytes:
        localize = self._links.localize(origin)

        def change(name: str, text: str) -> str:
            if name == "webhook":
                return self._relay.original(text) or text
            return localize(name, text)

        return rewrite_strings(body, change) if parse_json(body) is not None else body

    async def _stream(self, request: web.Request, recorded: str) -> web.StreamResponse:
        tap = self._taps[recorded]
        at, headers, origin = self._recording.now(), dict(request.headers), self._origin(request)
        self._recording.redactor.learn_headers(headers)
        try:
            refused = await tap.open(self._client, headers, self.spawn)
        except (aiohttp.ClientError, OSError) as failure:
            raise _no_answer(failure) from failure
        if refused is not None:
            took = round(self._recording.now() - at, 4)
            self._recording.exchange(
                at, request.method, request.raw_path, headers, b"", refused, took=took
            )
            return self._response(refused, origin)
        run = self._runs.find(self._run_of_stream[recorded])
        is_text = run is None or run.schema.is_text
        change = self._links.localize(origin)
        response = web.StreamResponse(headers=STREAM_HEADERS)
        await response.prepare(request)
        async for block in tap.follow(headers.get("Last-Event-ID")):
            text = None if is_text else lambda data: change("", data)
            await response.write(rewrite_event(block, change, text))
        return response

    async def _read_stream(self, recorded: str) -> None:
        """Read a stream to its end, whether a client does or not: others may when it is replayed.

        Upstream closes a stream that is silent for long; it is then opened again.
        """
        tap, run = self._taps[recorded], self._runs.find(self._run_of_stream[recorded])
        if run is None:
            return
        headers = {k: v for k, v in run.headers.items() if k.lower() == "authorization"}
        headers["Accept"] = "text/event-stream"
        while not tap.is_done:
            had_ended, count = run.has_ended, tap.count
            try:
                if await tap.open(self._client, headers, self.spawn) is not None:
                    return
            except (aiohttp.ClientError, OSError) as failure:
                log.info("a stream could not be read: %s", type(failure).__name__)
            await tap.wait_until_closed()
            if had_ended and tap.count == count:
                return
            await self._clock.sleep_until(self._clock.monotonic() + _STREAM_PAUSE)

    def _record_event(self, recorded: str, block: bytes) -> None:
        run = self._runs.find(self._run_of_stream[recorded])
        schema = UNKNOWN if run is None else run.schema
        document = parse_json(event_data(block))
        private = set() if run is None else set(run.private)
        links: list[str] = []
        if _is_prediction(document):
            private, links = self._secrets(schema, document), self._notice(document, schema)
        elif not schema.is_text:
            links = self._downloads.add(_event_links(event_data(block), document))
        self._recording.event(recorded, block, private=private, links=links)
        if run is not None and is_final(block):
            self._runs.hurry(run.id)

    async def _relay_webhook(self, request: web.Request) -> web.Response:
        """Pass a webhook of upstream's on to its receiver, with local links, and record it."""
        receiver, body = self._relay.find(request.path), await request.read()
        document = parse_json(body)
        if receiver is None or not _is_prediction(document):
            raise not_found()
        if self._runs.find(document["id"]) is None:  # It overtook the response of the create.
            schema = await self._schema(None, document, receiver.headers)
            self._runs.add(document, schema, receiver.headers)
        run = self._runs.find(document["id"])
        schema = UNKNOWN if run is None else run.schema
        identifier = request.headers.get("webhook-id", secrets.token_hex(8))
        if self._relay.is_first(identifier):
            self._recording.webhook(
                identifier,
                document["id"],
                body,
                private=self._secrets(schema, document),
                links=self._notice(document, schema),
            )
        shown = self._local_body(body, receiver.origin)
        status = await self._relay.post(receiver, identifier, shown, self._clock.now())
        return web.Response(status=status)

    async def _look(self, run: RecordedRun) -> None:
        """Ask for the state of a run, and record it."""
        at, target = self._recording.now(), f"/v1/predictions/{run.id}"
        token = {k: v for k, v in run.headers.items() if k.lower() == "authorization"}
        try:
            response = await self._client.send("GET", target, token)
        except (aiohttp.ClientError, OSError):
            return
        document = parse_json(response.body)
        if response.status != 200 or not _is_prediction(document):
            return
        took = round(self._recording.now() - at, 4)
        private, links = self._secrets(run.schema, document), self._notice(document, run.schema)
        self._recording.exchange(
            at, "GET", target, {}, b"", response, took=took, private=private, links=links
        )

    def _origin(self, request: web.Request) -> str:
        return origin_of(request, self._settings)


def _no_answer(failure: Exception) -> ApiError:
    return ApiError(502, f"Upstream gave no answer: {type(failure).__name__}.")


def _is_prediction(document: Any) -> bool:
    match document:
        case {"id": str(), "status": str(), "urls": dict()}:
            return True
        case _:
            return False


def _listed_predictions(document: Any) -> Iterable[Mapping[str, Any]]:
    results = document.get("results") if isinstance(document, dict) else None
    return filter(_is_prediction, results) if isinstance(results, list) else ()


def _event_links(data: bytes, document: Any) -> list[str]:
    """Return the links to files in an event of a stream that is not text."""
    chunk = document.get("chunk") if isinstance(document, dict) else document
    text = chunk if isinstance(chunk, str) else data.decode("utf-8", "replace")
    return [text] if text.startswith("http") and is_link(text) else []
