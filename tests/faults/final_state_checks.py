"""What else a server holds when all has ended: budgets, media, and what it was alarmed by."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .leftover_data import files_below, forms_of_the_mark, samples, sealed, traces
from .media_locations import FOLDER, MediaLocation

if TYPE_CHECKING:
    from .ledger_book import LedgerBook

Row = tuple[str, str, str, str, int, int]


def check_budgets(data: Path, books: LedgerBook) -> None:
    """Spent is the sum of what has been charged; held is what nobody will ever know, no more.

    Added up here from the ledger, whatever the server has made of each commit.
    """
    rows = _rows(data)
    assert rows
    for tenant, span, key, value, spent, reserved in rows:
        lines = [
            books.ledger[attempt]
            for attempt, (owner, _, _) in books.attempts.items()
            if _counts(books.generations[owner], tenant, span, key, value)
        ]
        settled = [each["settle"][0] for each in lines if "settle" in each]
        unknown = [
            each["reserve"][0] or 0
            for each in lines
            if "settle" in each and each["settle"][0] is None
        ]
        assert spent == sum(nanos for nanos in settled if nanos is not None), (span, key)
        assert reserved == sum(unknown), (span, key)
    print(f"budgets: {[(span, key, spent, held) for _, span, key, _, spent, held in rows]}")


def check_alarms(data: Path) -> None:
    """The ledger was compared with upstream's list all the time: nothing was ever amiss in it."""
    with closing(sqlite3.connect(f"file:{data / 'mediagate.sqlite3'}?mode=ro", uri=True)) as file:
        passes = file.execute("SELECT count(*), sum(complete), sum(matched) FROM reconciliations")
        print("reconciled: {} passes, {} of them whole, {} matched".format(*passes.fetchone()))
        assert file.execute("SELECT * FROM discrepancies").fetchall() == []


def needles(data: Path) -> set[bytes]:
    """What is to be searched for once all is erased. That it is found before is checked here."""
    contents = (*FOLDER.outputs(data).values(), *sealed(data))
    marks = {*forms_of_the_mark(), *samples(contents)}
    assert traces(files_below(data), marks)
    return marks


def check_erased(data: Path, needles: set[bytes], before: LedgerBook, after: LedgerBook) -> None:
    """The books are what they were, and not a byte is left, whatever died in between."""
    assert after.ledger == before.ledger
    assert after.attempts == before.attempts
    check_budgets(data, after)
    assert sealed(data) == []
    assert traces(files_below(data.parent), needles) == []


def check_media(data: Path, books: LedgerBook, location: MediaLocation) -> None:
    """Every output of every run that succeeded is kept, byte for byte; and nothing besides.

    Nothing is left of what was on its way when a server died.
    """
    stored = {
        key: hashlib.sha256(content).hexdigest() for key, content in location.outputs(data).items()
    }
    assert stored == dict(_digests_of(books.generations))
    media = data / "media"
    assert [file.name for file in media.rglob("*.half")] == []
    assert list((media / "incoming").iterdir()) == []
    print(f"{len(stored)} outputs kept")


def _rows(data: Path) -> list[Row]:
    with closing(sqlite3.connect(f"file:{data / 'mediagate.sqlite3'}?mode=ro", uri=True)) as file:
        return file.execute("SELECT * FROM budget_use").fetchall()


def _counts(document: Any, tenant: str, span: str, key: str, value: str) -> bool:
    """Whether a generation counts in a row: a span is the beginning of its time, or everything."""
    in_span = span == "total" or document["created_at"].startswith(span)
    labelled = not key or document.get("labels", {}).get(key) == value
    return document["tenant"] == tenant and in_span and labelled


def _digests_of(generations: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Where each output of a generation is kept, and its SHA-256."""
    for name, document in generations.items():
        for index, medium in enumerate(document.get("output", {}).get("media", ())):
            if not medium["uri"]:
                continue  # One that was not made: its failure is in `missing`.
            assert medium.get("kept"), json.dumps(document)
            assert "failure" not in medium
            yield f"outputs/{name}/{index}", medium["sha256"]
