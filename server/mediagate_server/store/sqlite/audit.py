"""`SqliteAudit`: the audit port over the store's own threads."""

from collections.abc import Iterable
from datetime import datetime

from mediagate_server.store.reconciliations import (
    Discrepancy,
    DueCharges,
    Findings,
    Reconciliation,
    Settlement,
)
from mediagate_server.store.sqlite import reconciliations
from mediagate_server.store.sqlite.reader import Reader
from mediagate_server.store.sqlite.writer import GroupCommitWriter


class SqliteAudit:
    """Implements `reconciliations.Audit`. Made by the store."""

    def __init__(self, writer: GroupCommitWriter, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def due(self, after_line: int, since: datetime, settled_by: datetime) -> DueCharges:
        """See reconciliations.Audit."""
        return await self._reader.read(
            lambda c: reconciliations.due(c, after_line, since, settled_by)
        )

    async def due_page(self, due: DueCharges, above: int, limit: int) -> tuple[Settlement, ...]:
        """See reconciliations.Audit."""
        return await self._reader.read(lambda c: reconciliations.due_page(c, due, above, limit))

    async def at_lines(self, lines: Iterable[int]) -> tuple[Settlement, ...]:
        """See reconciliations.Audit."""
        asked = tuple(lines)
        return await self._reader.read(lambda c: reconciliations.at_lines(c, asked))

    async def write_cases(self, cases: tuple[Discrepancy, ...]) -> tuple[Discrepancy, ...]:
        """See reconciliations.Audit."""
        new: tuple[Discrepancy, ...] = await self._writer.submit(
            lambda c: reconciliations.write_cases(c, cases)
        )
        return new

    async def settled(self, prediction_ids: Iterable[str]) -> tuple[Settlement, ...]:
        """See reconciliations.Audit."""
        asked = tuple(prediction_ids)
        return await self._reader.read(lambda c: reconciliations.settled(c, asked))

    async def last(self, account: str) -> Reconciliation | None:
        """See reconciliations.Audit."""
        return await self._reader.read(lambda c: reconciliations.last(c, account))

    async def write(self, made: Reconciliation) -> None:
        """See reconciliations.Audit."""
        await self._writer.submit(lambda c: reconciliations.write(c, made))

    async def findings(self, since: datetime, limit: int) -> Findings:
        """See reconciliations.Audit."""
        return await self._reader.read(lambda c: reconciliations.findings(c, since, limit))
