"""The gate's books beside upstream's: what the store holds, what was billed, what was told."""

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
    """What a gate that is gone has left in its store."""

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
        return [held for owner, _, held in self.attempts.values() if owner == generation]

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
            (kept,) = ask(
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
                kept,
            )


async def check_books(
    data: Path, sandbox: SandboxControl, told: list[CallerRecord], place: MediaLocation = FOLDER
) -> None:
    """After the last gate is gone: everything that must hold, whatever happened."""
    books, bill = LedgerBook.of(data), await asyncio.to_thread(sandbox.bill)
    print(f"{len(told)} calls answered")
    check_ended(books)
    check_told(books, told)
    check_posts(books, bill)
    check_ledger(books, bill)
    check_budgets(data, books)
    await asyncio.to_thread(check_media, data, books, place)
    check_alarms(data)


def check_told(books: LedgerBook, told: Iterable[CallerRecord]) -> None:
    """Acknowledged and lost: 0. Each call is one generation, which is what it was told it is.

    Where upstream never took one its caller was told so, and asked anew: that is another one.
    """
    for one in told:
        name = books.bound[one.asked.request.request_id]
        assert name == one.id
        assert one.ids <= books.generations.keys()
        for released in one.ids - {name}:
            assert books.generations[released]["state"] == "failed"
            assert not any(books.predictions_of(released))
        assert one.ended is not None
        if one.ended.state == ENDED and one.asked.rpc == "StreamText":
            assert one.completed
            assert one.text == one.ended.text.text


def check_ended(books: LedgerBook) -> None:
    """Not terminal after recovery: 0. Nothing of what was asked for is kept any longer."""
    states = Counter(one["state"] for one in books.generations.values())
    print(f"generations: {dict(states)}; attempts: {_states(books)}")
    assert states.keys() <= {"succeeded", "failed", "cancelled"}
    assert not _states(books).keys() & set(NO_END)
    assert books.left_over == 0


def check_posts(books: LedgerBook, bill: Any) -> None:
    """Attempts with more than one POST: 0. Generations with more than one paid result: 0.

    Each prediction was asked for by an attempt that is in the store, and is held by it. What
    failed is no result: another model may have taken over.
    """
    made: dict[str, list[str]] = defaultdict(list)
    held = {name: prediction for name, (_, _, prediction) in books.attempts.items() if prediction}
    holders = {prediction: name for name, prediction in held.items()}
    assert len(holders) == len(held)
    for entry in bill["entries"]:
        # Without webhooks nobody but the gate can say whose it is.
        webhook = entry["webhook"]
        whose = _attempt_of(webhook) if webhook else holders[entry["id"]]
        made[whose].append(entry["id"])
    assert [attempt for attempt, ids in made.items() if len(ids) > 1] == []
    assert made.keys() <= books.attempts.keys()
    assert held == {attempt: ids[0] for attempt, ids in made.items()}
    failed = {entry["id"] for entry in bill["entries"] if entry["status"] == "failed"}
    paid = Counter(
        (name, attempt["purpose"], attempt["output_index"])
        for name, document in books.generations.items()
        for attempt in document["attempts"]
        if attempt.get("prediction_id", "") not in {"", *failed}
    )
    assert [lane for lane, count in paid.items() if count > 1] == []


def check_ledger(books: LedgerBook, bill: Any) -> None:
    """The ledger is the bill, to the nano-dollar, in sum and one by one; each line once."""
    assert books.ledger.keys() == books.attempts.keys()
    billed = {entry["id"]: entry for entry in bill["entries"]}
    known = 0
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
            known += amount or 0
        else:
            assert entry["unmetered"] or entry["unpriced"], (amount, state, entry)
    assert known == bill["total_nanos"]
    print(f"{len(billed)} predictions, {known / 1e9:.9f} USD in both books")


def _states(books: LedgerBook) -> Counter[str]:
    return Counter(state for _, state, _ in books.attempts.values())


def _attempt_of(webhook: str) -> str:
    """Whose address a prediction was made with."""
    return urlsplit(webhook).path.rpartition("/")[2].partition(".")[0]


def _store_file(data: Path) -> Path:
    return data / "mediagate.sqlite3"
