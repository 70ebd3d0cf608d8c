"""Replayer: answers Replicate's API from a cassette, without any upstream."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from mediagate_sandbox.api_errors import ApiError, InvalidField, invalid_input, not_found
from mediagate_sandbox.cassettes.cassette import Cassette, RecordedCreate, RecordedResponse
from mediagate_sandbox.cassettes.file_responses import file_response
from mediagate_sandbox.cassettes.json_strings import parse_json, rewrite_strings
from mediagate_sandbox.cassettes.links import LinkTable, rewrite_event
from mediagate_sandbox.cassettes.matching import Difference, differences, seeds_in
from mediagate_sandbox.cassettes.redaction import Redactor, redact_url, secret_strings
from mediagate_sandbox.cassettes.replayed_webhooks import ReplayedWebhooks
from mediagate_sandbox.cassettes.requests import (
    SECRET_PATH,
    compared_fields,
    create_target,
    normalize_body,
    prediction_of,
    read_key,
)
from mediagate_sandbox.cassettes.run_playback import RunPlayback
from mediagate_sandbox.cassettes.stream_tap import STREAM_HEADERS, is_final, resume_index
from mediagate_sandbox.clock import Clock
from mediagate_sandbox.json_response import respond_json
from mediagate_sandbox.middleware.auth import origin_of
from mediagate_sandbox.settings import SandboxSettings
from mediagate_sandbox.validation import webhook_errors
from mediagate_sandbox.webhook_signing import WebhookSigner

_MOST_MISMATCHES = 100
_TITLE = "No recording matches"


class Replayer:
    """Request handler that replays a cassette, each recorded create once and in order."""

    def __init__(
        self,
        cassette: Cassette,
        settings: SandboxSettings,
        clock: Clock,
        signer: WebhookSigner,
        webhooks: ReplayedWebhooks,
    ) -> None:
        """Replay from the beginning."""
        self._cassette = cassette
        self._settings = settings
        self._clock = clock
        self._signer = signer
        self._webhooks = webhooks
        self._links = LinkTable(cassette.upstream)
        self._stream_runs: dict[str, str] = {}
        for link in sorted(cassette.links):
            self._links.add(link)
        for run in cassette.runs.values():
            if run.stream is not None:
                self._stream_runs[self._links.add(run.stream, is_stream=True)] = run.id
        self.reset()

    def reset(self) -> None:
        """Begin again: all recorded creates are there to be replayed."""
        self._webhooks.stop()
        self._left = list(self._cassette.creates)
        self._playbacks: dict[str, RunPlayback] = {}
        self._reads: Counter[tuple[str, str, str]] = Counter()
        self._served = 0
        self._mismatches: deque[str] = deque(maxlen=_MOST_MISMATCHES)

    def state(self) -> dict[str, Any]:
        """Return what was replayed so far, for `/sandbox/cassette`."""
        complete = [each for each in self._cassette.creates if self._can_replay(each)]
        return {
            "mode": "replay",
            "upstream": self._cassette.upstream,
            "served": self._served,
            "creates": len(complete),
            "creates_left": sum(self._can_replay(each) for each in self._left),
            "incomplete": len(self._cassette.creates) - len(complete),
            "mismatches": list(self._mismatches),
        }

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request by what was recorded."""
        self._served += 1
        link = self._links.find(request.raw_path)
        if link is not None and link[1] in self._stream_runs:
            return await self._stream(request, self._stream_runs[link[1]])
        if link is not None:
            file = self._cassette.files.get(link[1])
            if file is None:
                raise not_found()
            media = self._cassette.media
            found = media.find(file.body) if isinstance(file.body, dict) else None
            return await file_response(request, file.status, file.headers, found)
        if request.path == SECRET_PATH:
            return respond_json({"key": self._signer.secret})
        return await self._exchange(request)

    async def _exchange(self, request: web.Request) -> web.Response:
        raw, origin = await request.read(), origin_of(request, self._settings)
        content_type = request.headers.get("Content-Type", "")
        is_json = not content_type.startswith("multipart/")
        if is_json:
            raw = rewrite_strings(raw, self._links.restore(origin))
        document = parse_json(raw) if is_json else None
        redactor = Redactor()
        redactor.learn_headers(request.headers)
        redactor.learn_query(request.raw_path)
        redactor.learn_document(document)
        body = normalize_body(content_type, raw, redactor.change(secret_strings(document)))
        target = create_target(request.method, request.path, document)
        if target is not None:
            return await self._create(request, compared_fields(target, body), document)
        about = prediction_of(request.path)
        if about is not None and about[0] in self._cassette.runs:
            return self._prediction(request, *about)
        recorded = self._read(request.method, redactor.text(redact_url(request.raw_path)), body)
        return self._response(recorded, origin, None)

    async def _create(
        self, request: web.Request, came: Mapping[str, Any], document: Any
    ) -> web.Response:
        webhook = document.get("webhook") if isinstance(document, dict) else None
        if isinstance(webhook, str):
            anywhere = self._settings.webhooks_over_http
            if faults := webhook_errors(webhook, anywhere=anywhere):
                raise invalid_input(faults)
        create = self._match(came, request.headers.get("Prefer"))
        self._left.remove(create)
        origin = origin_of(request, self._settings)
        if create.run is None:
            await self._pause(create.response.took)
            return self._response(create.response, origin, webhook)
        playback = RunPlayback(create.run, self._clock, self._settings.time_scale)
        self._playbacks[create.run.id] = playback
        if isinstance(webhook, str):
            self._webhooks.start(
                playback,
                webhook,
                document.get("webhook_events_filter"),
                create.webhook_events,
                lambda response: self._body(response, origin, webhook),
            )
        answered_at = create.at + create.response.took
        await playback.wait_for(answered_at)
        playback.show(answered_at)
        return self._response(create.response, origin, webhook)

    def _match(self, came: Mapping[str, Any], prefer: str | None) -> RecordedCreate:
        """Find the recorded create that is next. Raises ApiError (422) if none matches."""
        same = [each for each in self._left if not differences(each.fields, came)]
        complete = [each for each in same if self._can_replay(each)]
        if complete:
            seeds = seeds_in(came)
            return max(
                complete, key=lambda each: (seeds_in(each.fields) == seeds, each.prefer == prefer)
            )
        if same:
            raise self._mismatch("(root)", "The recording ended before this run did.")
        total = sum(not differences(each.fields, came) for each in self._cassette.creates)
        if total:
            text = f"It was recorded {total} times, and came once more. POST /sandbox/reset begins"
            raise self._mismatch("(root)", f"{text} again.")
        raise self._mismatch(*_nearest(self._cassette.creates, came))

    def _can_replay(self, create: RecordedCreate) -> bool:
        return create.run is None or self._cassette.is_complete(create.run)

    def _prediction(self, request: web.Request, prediction: str, is_cancel: bool) -> web.Response:  # noqa: FBT001 - as the path says
        playback = self._playbacks.get(prediction)
        if playback is None:  # Created before a reset, or by a program that is gone.
            run = self._cassette.runs[prediction]
            if not run.has_ended:
                raise not_found()
            playback = RunPlayback.ended(run, self._clock)
        if is_cancel != (request.method == "POST"):
            raise not_found()
        snapshot = playback.cancel() if is_cancel else playback.look()
        if snapshot is None:
            raise self._mismatch("(root)", "No cancel of this prediction was recorded.")
        origin = origin_of(request, self._settings)
        return self._response(snapshot.response, origin, self._webhooks.receiver(prediction))

    def _read(self, method: str, target: str, body: Any) -> RecordedResponse:
        """Return the next of the recorded responses, and the last one for ever."""
        key = read_key(method, target, body)
        recorded = self._cassette.reads.get(key)
        if recorded is None:
            text = f"No response to {method} {target.partition('?')[0]} was recorded"
            self._mismatches.append(text)
            raise ApiError(404, f"{text}, or not with this query or body.", title=_TITLE)
        number = min(self._reads[key], len(recorded) - 1)
        self._reads[key] += 1
        return recorded[number]

    async def _stream(self, request: web.Request, run_id: str) -> web.StreamResponse:
        run = self._cassette.runs[run_id]
        if not run.events:
            recorded = self._read("GET", request.raw_path, None)
            return self._response(recorded, origin_of(request, self._settings), None)
        playback = self._playbacks.get(run_id) or RunPlayback.ended(run, self._clock)
        change = self._links.localize(origin_of(request, self._settings))
        response = web.StreamResponse(headers=STREAM_HEADERS)
        await response.prepare(request)
        index = resume_index(
            [each.body for each in run.events], request.headers.get("Last-Event-ID")
        )
        text = (lambda data: change("", data)) if run.links else None
        for event in run.events[index:]:
            await playback.wait_for(event.at)
            playback.show(event.at)
            await response.write(rewrite_event(event.body, change, text))
            if is_final(event.body):
                await asyncio.sleep(self._settings.stream_linger)
        return response

    def _response(self, recorded: RecordedResponse, origin: str, webhook: Any) -> web.Response:
        localize = self._links.localize(origin)
        headers = {
            name: localize("get", value) if name.lower() in ("location", "link") else value
            for name, value in recorded.headers.items()
        }
        body = self._body(recorded, origin, webhook)
        return web.Response(status=recorded.status, headers=headers, body=body)

    def _body(self, recorded: RecordedResponse, origin: str, webhook: Any) -> bytes:
        body = self._cassette.media.decode(recorded.body)
        receiver = webhook if isinstance(webhook, str) else None
        change = self._links.localize(origin, receiver)
        return rewrite_strings(body, change) if parse_json(body) is not None else body

    def _mismatch(self, field: str, text: str) -> ApiError:
        self._mismatches.append(text)
        return ApiError(
            422,
            text,
            title=_TITLE,
            invalid_fields=[InvalidField("not_recorded", field, text)],
        )

    async def _pause(self, took: float) -> None:
        await self._clock.sleep_until(self._clock.monotonic() + took * self._settings.time_scale)


def _nearest(creates: Sequence[RecordedCreate], came: Mapping[str, Any]) -> tuple[str, str]:
    """Return the first field that differs from the most similar create, and the difference."""
    if not creates:
        return "(root)", "No create was recorded."
    targets = list(dict.fromkeys(str(each.fields["target"]) for each in creates))
    if came["target"] not in targets:
        recorded = ", ".join(targets[:5]) + (", ..." if len(targets) > 5 else "")
        difference = Difference("target", recorded, str(came["target"]))
        return difference.path, str(difference)
    found = [
        differences(each.fields, came)
        for each in creates
        if each.fields["target"] == came["target"]
    ]
    first = min(found, key=len)[0]
    return first.path, str(first)
