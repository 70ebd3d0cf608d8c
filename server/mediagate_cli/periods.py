"""Stretches of time as they are typed: a month, or a first and a last day. All in UTC."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

import typer


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` until right before `end`."""

    start: datetime
    end: datetime

    @classmethod
    def of_month(cls, text: str, hint: str = "--month") -> Self:
        """Return the month YYYY-MM. BadParameter if it is none."""
        start = _parsed(text, "%Y-%m", "a month like 2026-11", hint)
        return cls(start, _ended(_next_month, start, text, hint))

    @classmethod
    def of(cls, month: str | None, first: str | None, last: str | None) -> Self:
        """Return what was asked for; the running month, where nothing was. BadParameter."""
        if month is not None:
            if first or last:
                raise typer.BadParameter(
                    "not together with --since or --until", param_hint="--month"
                )
            return cls.of_month(month)
        if last:
            end = _ended(_next_day, _day(last, "--until"), last, "--until")
        else:
            end = _next_month(datetime.now(UTC))
        start = _day(first, "--since") if first else _month_of(end - timedelta(days=1))
        if start >= end:
            raise typer.BadParameter("is after --until", param_hint="--since")
        return cls(start, end)

    def __str__(self) -> str:
        """Return the first and the last day."""
        last = (self.end - timedelta(days=1)).date()
        return f"{self.start.date()} to {last}"


def _month_of(moment: datetime) -> datetime:
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _next_month(moment: datetime) -> datetime:
    return _month_of(_month_of(moment) + timedelta(days=32))


def _next_day(moment: datetime) -> datetime:
    return moment + timedelta(days=1)


def _ended(
    following: Callable[[datetime], datetime], start: datetime, text: str, hint: str
) -> datetime:
    """Return when what begins at `start` is over. BadParameter: it ends where dates do."""
    try:
        return following(start)
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is too late to be added up", param_hint=hint) from None


def _day(text: str, hint: str) -> datetime:
    return _parsed(text, "%Y-%m-%d", "a day like 2026-11-24", hint)


def _parsed(text: str, form: str, words: str, hint: str) -> datetime:
    try:
        moment = datetime.strptime(text, form)  # noqa: DTZ007 - it is UTC by what is documented
        return moment.replace(tzinfo=UTC)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not {words}", param_hint=hint) from None
