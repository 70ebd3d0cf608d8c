"""Cassette, read for replay: runs with all that was seen of them, files, and other responses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mediagate_sandbox.cassettes.cassette_file import (
    Body,
    CassetteError,
    MediaFolder,
    read_entries,
    references_in,
)
from mediagate_sandbox.cassettes.json_strings import parse_json
from mediagate_sandbox.cassettes.requests import (
    TERMINAL_STATUSES,
    compared_fields,
    create_target,
    prediction_of,
    read_key,
)


@dataclass(frozen=True, slots=True)
class RecordedResponse:
    """A recorded response. `took`: seconds from its request."""

    status: int
    headers: Mapping[str, str]
    body: Body
    took: float = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a prediction looked like at a time, or an error in place of it."""

    at: float
    status: str
    """Status of the prediction; empty for an error."""
    response: RecordedResponse


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """One server-sent event."""

    at: float
    body: bytes


@dataclass(frozen=True, slots=True)
class RecordedWebhook:
    """One delivery of a webhook."""

    at: float
    id: str
    body: Body


@dataclass(slots=True)
class RecordedRun:
    """All that was recorded of one prediction."""

    id: str
    begun_at: float = 0.0
    model: str = ""
    snapshots: list[Snapshot] = field(default_factory=list)
    cancels: list[tuple[float, RecordedResponse]] = field(default_factory=list)
    stream: str | None = None
    events: list[RecordedEvent] = field(default_factory=list)
    webhooks: list[RecordedWebhook] = field(default_factory=list)
    links: set[str] = field(default_factory=set)

    @property
    def has_ended(self) -> bool:
        """Whether its end was recorded."""
        return any(each.status in TERMINAL_STATUSES for each in self.snapshots)

    @property
    def end(self) -> Snapshot:
        """The state that it ended in."""
        return self.snapshots[-1]

    def sort(self) -> None:
        """Bring all into the order of time; nothing counts after the data was removed."""
        self.snapshots.sort(key=lambda each: each.at)
        self.events.sort(key=lambda each: each.at)
        self.webhooks.sort(key=lambda each: each.at)
        self.cancels.sort(key=lambda each: each[0])


@dataclass(frozen=True, slots=True)
class RecordedCreate:
    """A create and its response; `run` is the prediction that it made, if any."""

    at: float
    fields: Mapping[str, Any]
    """What it is compared by."""
    prefer: str | None
    webhook_events: Any
    response: RecordedResponse
    run: RecordedRun | None


class Cassette:
    """All of one cassette. Raises CassetteError if it cannot be used."""

    def __init__(self, path: Path) -> None:
        """Read `path` and check the files beside it."""
        self.path = path
        self.media = MediaFolder(path)
        head, entries, _ = read_entries(path)
        self.upstream: str = head["upstream"]
        self.creates: list[RecordedCreate] = []
        self.runs: dict[str, RecordedRun] = {}
        self.files: dict[str, RecordedResponse] = {}
        self.reads: dict[tuple[str, str, str], list[RecordedResponse]] = defaultdict(list)
        self.links: set[str] = set()
        """Links to output files."""
        self._run_of_stream: dict[str, RecordedRun] = {}
        self._check_media(entries)
        entries.sort(key=lambda entry: float(entry["at"]))
        for entry in entries:
            if entry["kind"] == "exchange":
                self._add_create(entry)
        for entry in entries:
            self._add(entry)
        for run in self.runs.values():
            run.sort()

    def is_complete(self, run: RecordedRun) -> bool:
        """Whether a run can be replayed: its end is there, and all its files."""
        return run.has_ended and run.links <= self.files.keys()

    def _check_media(self, entries: list[dict[str, Any]]) -> None:
        seen = set()
        for entry in entries:
            for body in (entry.get("body"), entry.get("response", {}).get("body")):
                for reference in references_in(body):
                    if reference["sha256"] not in seen:
                        seen.add(reference["sha256"])
                        try:
                            self.media.check(reference)
                        except CassetteError as error:
                            raise CassetteError(f"{self.path}: {error}") from None

    def _add_create(self, entry: Mapping[str, Any]) -> None:
        request, response = entry["request"], _response(entry["response"], entry["took"])
        path, body = request["target"].partition("?")[0], request["body"]
        target = create_target(request["method"], path, body)
        if target is None:
            return
        document = self._document(response.body)
        run = None
        if _is_prediction(document):
            run = self.runs.setdefault(document["id"], RecordedRun(document["id"]))
            run.begun_at = entry["at"]
            run.model = str(document.get("model") or target)
            self._add_snapshot(run, entry["at"] + entry["took"], response, document)
            run.links |= set(entry["links"])
        events = body.get("webhook_events_filter") if isinstance(body, dict) else None
        self.creates.append(
            RecordedCreate(
                entry["at"],
                compared_fields(target, body),
                request["headers"].get("Prefer"),
                events,
                response,
                run,
            )
        )

    def _add(self, entry: Mapping[str, Any]) -> None:
        self.links |= set(entry.get("links", ()))
        match entry["kind"]:
            case "exchange":
                self._add_exchange(entry)
            case "webhook":
                self._add_webhook(entry)
            case "file":
                self.files[entry["url"]] = _response(entry, 0.0)
            case "event":
                body = self.media.decode(entry["body"])
                run = self._run_of_stream.get(entry["stream"])
                if run is not None:
                    run.events.append(RecordedEvent(entry["at"], body))
                    run.links |= set(entry["links"])

    def _add_exchange(self, entry: Mapping[str, Any]) -> None:
        request, response = entry["request"], _response(entry["response"], entry["took"])
        target, at = request["target"], entry["at"] + entry["took"]
        if create_target(request["method"], target.partition("?")[0], request["body"]) is not None:
            return
        about = prediction_of(target)
        run = self.runs.get(about[0]) if about is not None else None
        if run is None or about is None or request["method"] not in ("GET", "POST"):
            self.reads[read_key(request["method"], target, request["body"])].append(response)
            return
        document = self._document(response.body)
        if about[1]:
            run.cancels.append((entry["at"], response))
        if _is_prediction(document) or not about[1]:
            self._add_snapshot(run, at, response, document)
        run.links |= set(entry["links"])

    def _add_webhook(self, entry: Mapping[str, Any]) -> None:
        run = self.runs.get(entry["run"])
        if run is None:
            return
        run.webhooks.append(RecordedWebhook(entry["at"], entry["id"], entry["body"]))
        response = RecordedResponse(200, {"Content-Type": "application/json"}, entry["body"])
        self._add_snapshot(run, entry["at"], response, self._document(entry["body"]))
        run.links |= set(entry["links"])

    def _add_snapshot(
        self, run: RecordedRun, at: float, response: RecordedResponse, document: Any
    ) -> None:
        if not _is_prediction(document):
            run.snapshots.append(Snapshot(at, "", response))
            return
        stream = document["urls"].get("stream")
        if isinstance(stream, str):
            run.stream = stream
            self._run_of_stream[stream] = run
        if run.has_ended and document.get("data_removed"):
            return  # An hour later; who replays wants the result.
        shown = RecordedResponse(200, response.headers, response.body, response.took)
        run.snapshots.append(Snapshot(at, document["status"], shown))

    def _document(self, body: Body) -> Any:
        return parse_json(self.media.decode(body))


def _response(entry: Mapping[str, Any], took: float) -> RecordedResponse:
    return RecordedResponse(entry["status"], entry["headers"], entry["body"], took)


def _is_prediction(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and isinstance(document.get("id"), str)
        and isinstance(document.get("status"), str)
        and isinstance(document.get("urls"), dict)
    )
