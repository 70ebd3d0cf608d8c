"""Date ranges on the command line: a month, or a first and a last day, in UTC."""

from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Self

import typer

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class DateRange:
    """Half-open range: `end` is excluded."""

    start: datetime
    end: datetime

    @classmethod
    def of_month(cls, text: str, hint: str = "--month") -> Self:
        """Parse a month, YYYY-MM. Raises BadParameter."""
        start = _parsed(text, "%Y-%m", "a month like 2026-11", hint)
        return cls(start, _next_month(start))

    @classmethod
    def of(cls, month: str | None, first: str | None, last: str | None) -> Self:
        """Parse the three options; the default is the current month. Raises BadParameter."""
        if month is not None:
            if first or last:
                raise typer.BadParameter(
                    "not together with --since or --until", param_hint="--month"
                )
            return cls.of_month(month)
        end = _day(last, "--until") + _DAY if last else _next_month(datetime.now(UTC))
        start = _day(first, "--since") if first else _month_of(end - _DAY)
        if start >= end:
            raise typer.BadParameter("is after --until", param_hint="--since")
        return cls(start, end)

    def __str__(self) -> str:
        """Format as the first and the last day."""
        return f"{self.start.date()} to {(self.end - _DAY).date()}"


def _month_of(moment: datetime) -> datetime:
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _next_month(moment: datetime) -> datetime:
    return _month_of(_month_of(moment) + timedelta(days=32))


def _day(text: str, hint: str) -> datetime:
    return _parsed(text, "%Y-%m-%d", "a day like 2026-11-24", hint)


def _parsed(text: str, form: str, words: str, hint: str) -> datetime:
    """Parse a time. BadParameter also for the last year: the end of its range is no date."""
    try:
        moment = datetime.strptime(text, form)  # noqa: DTZ007 - it is UTC by what is documented
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not {words}", param_hint=hint) from None
    if moment.year == MAXYEAR:
        raise typer.BadParameter(f"{text!r} is too late to be added up", param_hint=hint)
    return moment.replace(tzinfo=UTC)
