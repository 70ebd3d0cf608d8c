"""The server's books beside upstream's: what the store holds, what was billed, what was told."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mediagate_sandbox.control_client import SandboxControl

from .final_state_checks import check_alarms, check_budgets, check_media
from .media_locations import FOLDER, MediaLocation
from .retrying_caller import ENDED, CallerRecord

NO_END = ("queued", "submitting", "unconfirmed", "accepted")


@dataclass(frozen=True)
class LedgerBook:
    """What a server that is gone has left in its store."""

    generations: dict[str, Any]
    bound: dict[str, str]
    attempts: dict[str, tuple[str, str, str]]
    """Of each: its generation, its state, its prediction or nothing."""
    ledger: dict[str, dict[str, tuple[int | None, str]]]
    """Of each attempt: amount and state of its lines, by their kind."""
    left_over: int
    """Inputs and pieces of text that are still kept."""

    def predictions_of(self, generation: str) -> list[str]:
        """The predictions of a generation's attempts, nothing for those without."""
        return [
            prediction for owner, _, prediction in self.attempts.values() if owner == generation
        ]

    @classmethod
    def of(cls, data: Path) -> LedgerBook:
        """From the file itself, which must be whole."""
        file = _store_file(data)
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            ask = connection.execute
            assert ask("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert ask("PRAGMA foreign_key_check").fetchall() == []
            ledger: dict[str, dict[str, tuple[int | None, str]]] = defaultdict(dict)
            for attempt, kind, amount, state in ask(
                "SELECT attempt_id, kind, amount_nanos, state FROM ledger"
            ):
                ledger[attempt][kind] = amount, state
            (row,) = ask(
                "SELECT (SELECT count(*) FROM pending) + (SELECT count(*) FROM checkpoints)"
            ).fetchone()
            return cls(
                {
                    name: json.loads(document)
                    for name, document in ask("SELECT id, document FROM generations")
                },
                dict(ask("SELECT request_id, generation_id FROM request_ids")),
                {
                    name: (generation, state, prediction or "")
                    for name, generation, state, prediction in ask(
                        "SELECT id, generation_id, state, prediction_id FROM attempts"
                    )
                },
                dict(ledger),
                row,
            )


async def check_books(
    data: Path,
    sandbox: SandboxControl,
    records: list[CallerRecord],
    location: MediaLocation = FOLDER,
) -> None:
    """After the last server is gone: everything that must hold, whatever happened."""
    books, bill = LedgerBook.of(data), await asyncio.to_thread(sandbox.bill)
    print(f"{len(records)} calls answered")
    check_ended(books)
    check_reported(books, records)
    check_posts(books, bill)
    check_ledger(books, bill)
    check_budgets(data, books)
    await asyncio.to_thread(check_media, data, books, location)
    check_alarms(data)


def check_reported(books: LedgerBook, records: Iterable[CallerRecord]) -> None:
    """Acknowledged and lost: 0. Each call is one generation, which is what it was told it is.

    Where upstream never took one its caller was told so, and asked anew: that is another one.
    """
    for record in records:
        name = books.bound.get(record.sample.request.request_id)
        # Nothing is bound where the last one was killed at each of its creates, and told so.
        assert name in (record.id, None)
        assert record.ids <= books.generations.keys()
        for released in record.ids - {name}:
            assert books.generations[released]["state"] == "failed"
            assert not any(books.predictions_of(released))
        assert record.ended is not None
        if record.ended.state == ENDED and record.sample.rpc == "StreamText":
            assert record.completed
            assert record.text == record.ended.text.text


def check_ended(books: LedgerBook) -> None:
    """Not terminal after recovery: 0. Nothing of what was asked for is kept any longer."""
    states = Counter(generation["state"] for generation in books.generations.values())
    print(f"generations: {dict(states)}; attempts: {_states(books)}")
    assert states.keys() <= {"succeeded", "failed", "cancelled"}
    assert not _states(books).keys() & set(NO_END)
    assert books.left_over == 0


def check_posts(books: LedgerBook, bill: Any) -> None:
    """Attempts with more than one POST: 0. Generations with more than one paid result: 0.

    Each prediction was asked for by an attempt that is in the store, and is held by it. What
    failed is no result: another model may have taken over.
    """
    predictions_by_attempt: dict[str, list[str]] = defaultdict(list)
    attempts_by_prediction = {
        name: prediction for name, (_, _, prediction) in books.attempts.items() if prediction
    }
    holders = {prediction: name for name, prediction in attempts_by_prediction.items()}
    assert len(holders) == len(attempts_by_prediction)
    for entry in bill["entries"]:
        # Without webhooks nobody but the server can say whose it is.
        webhook = entry["webhook"]
        whose = _attempt_of(webhook) if webhook else holders[entry["id"]]
        predictions_by_attempt[whose].append(entry["id"])
    assert [attempt for attempt, ids in predictions_by_attempt.items() if len(ids) > 1] == []
    assert predictions_by_attempt.keys() <= books.attempts.keys()
    assert attempts_by_prediction == {
        attempt: ids[0] for attempt, ids in predictions_by_attempt.items()
    }
    failed = {entry["id"] for entry in bill["entries"] if entry["status"] == "failed"}
    billed_counts = Counter(
        (name, attempt["purpose"], attempt["output_index"])
        for name, document in books.generations.items()
        for attempt in document["attempts"]
        if attempt.get("prediction_id", "") not in {"", *failed}
    )
    assert [step for step, count in billed_counts.items() if count > 1] == []


def check_ledger(books: LedgerBook, bill: Any) -> None:
    """The ledger is the bill, to the nano-dollar, in sum and one by one; each line once."""
    assert books.ledger.keys() == books.attempts.keys()
    billed = {entry["id"]: entry for entry in bill["entries"]}
    known_nanos = 0
    for name, (_, _, prediction) in books.attempts.items():
        lines = books.ledger[name]
        if not prediction:
            assert lines.keys() == {"reserve", "release"}, lines
            assert lines["release"] == (0, "settled")
            continue
        assert lines.keys() == {"reserve", "settle"}, lines
        amount, state = lines["settle"]
        entry = billed[prediction]
        if state == "settled":
            assert amount == entry["nanos"], (amount, entry)
            known_nanos += amount or 0
        else:
            assert entry["unmetered"] or entry["unpriced"], (amount, state, entry)
    assert known_nanos == bill["total_nanos"]
    print(f"{len(billed)} predictions, {known_nanos / 1e9:.9f} USD in both books")


def _states(books: LedgerBook) -> Counter[str]:
    return Counter(state for _, state, _ in books.attempts.values())


def _attempt_of(webhook: str) -> str:
    """Whose address a prediction was made with."""
    return urlsplit(webhook).path.rpartition("/")[2].partition(".")[0]


def _store_file(data: Path) -> Path:
    return data / "mediagate.sqlite3"
