"""Invoice file reader: CSV or JSON of one documented shape each.

    month,model,amount_usd
    2026-10,black-forest-labs/flux-dev,12.50

    [{"month": "2026-10", "model": "black-forest-labs/flux-dev", "amount_usd": "12.50"}]

`month` may be left out, and there are no other fields. A model may have several lines. Amounts are
dollars, below zero in a credit note. What is not of that shape is refused, with the line (of
JSON: the entry) and the field: a file that is misread might agree with the ledger.
"""

import csv
import io
import json
import re
import reprlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

_FIELDS: Final = ("month", "model", "amount_usd")
_MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])", re.ASCII)
_AMOUNT: Final = re.compile(r"-?\d{1,15}(\.\d{1,18})?", re.ASCII)
_MODEL: Final = re.compile(r"[^\s:]+(:[^\s/]+)?")
_NANOS: Final = 10**9
_CENT_DECIMALS: Final = 2


class InvoiceError(ValueError):
    """The file is no invoice that can be read. The text says where and why."""


@dataclass(frozen=True, slots=True)
class InvoiceAmount:
    """Sum of lines in nano-dollars.

    `slack` is how far it may be off by the rounding of its lines alone: half a unit of the last
    place of each, and never more than half a cent. Invoices are in cents or finer; that fewer
    places are shown says nothing, as numbers in JSON come without the zeros at their end.
    """

    nanos: Decimal
    slack: Decimal

    def __add__(self, other: "InvoiceAmount") -> "InvoiceAmount":
        return InvoiceAmount(self.nanos + other.nanos, self.slack + other.slack)


NOTHING: Final = InvoiceAmount(Decimal(0), Decimal(0))


@dataclass(frozen=True, slots=True)
class Invoice:
    """Amounts by slug or alias, in lower case and without a version. `month`: empty if unsaid."""

    month: str
    amounts: Mapping[str, InvoiceAmount]


def read_invoice(text: str) -> Invoice:
    """Return what a file says. Raises InvoiceError."""
    text = text.removeprefix("\ufeff")
    lines = _json_lines(text) if text.lstrip()[:1] in ("[", "{") else _csv_lines(text)
    months: set[str] = set()
    amounts: defaultdict[str, InvoiceAmount] = defaultdict(lambda: NOTHING)
    for location, line in lines:
        stated = "month" in line
        months.add(
            _field(location, line, "month", _MONTH, "a month like 2026-10") if stated else ""
        )
        model = _field(location, line, "model", _MODEL, "the name of a model")
        amounts[slug_of(model)] += _amount(location, line)
    if not months:
        raise InvoiceError("it has no lines")
    if len(months) > 1:
        raise InvoiceError(f"its lines are not all of one month: {reprlib.repr(sorted(months))}")
    return Invoice(months.pop(), dict(amounts))


def slug_of(model: str) -> str:
    """Return a model's name in lower case, without a version."""
    return model.partition(":")[0].casefold()


def _csv_lines(text: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = next(rows, [])
        _check_fields("line 1", names)
        for cells in rows:
            location = f"line {rows.line_num}"
            if cells and len(cells) != len(names):
                raise InvoiceError(
                    f"{location}: it has {len(cells)} cells, the heading {len(names)}"
                )
            if cells:
                yield location, dict(zip(names, cells, strict=True))
    except csv.Error as error:
        raise InvoiceError(f"line {rows.line_num}: {error}") from None


def _json_lines(text: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Numbers are kept as they are written, objects as tuples, so that a name given twice shows."""
    try:
        entries = json.loads(text, parse_float=str, parse_int=str, object_pairs_hook=tuple)
    except ValueError as error:
        raise InvoiceError(f"it is not JSON: {error}") from None
    except RecursionError:
        raise InvoiceError("it is nested too deep for an invoice") from None
    if not isinstance(entries, list):
        raise InvoiceError("it is no list of objects")
    for number, entry in enumerate(entries, 1):
        location = f"entry {number}"
        if not isinstance(entry, tuple):
            raise InvoiceError(f"{location}: it is no object")
        _check_fields(location, [name for name, _ in entry])
        yield location, dict(entry)


def _check_fields(location: str, names: Sequence[str]) -> None:
    """Each field is there once, but for the month, and nothing else is."""
    for name in names:
        if name not in _FIELDS:
            raise InvoiceError(f"{location}: {reprlib.repr(name)} is none of {', '.join(_FIELDS)}")
    for name in _FIELDS:
        if (count := names.count(name)) > 1 or (not count and name != "month"):
            raise InvoiceError(f"{location}: {name} is there {count} times")


def _field(
    location: str, line: Mapping[str, object], name: str, form: re.Pattern[str], expected: str
) -> str:
    value = line[name]
    if not isinstance(value, str) or not form.fullmatch(value):
        raise InvoiceError(f"{location}: {name} {reprlib.repr(value)} is not {expected}")
    return value


def _amount(location: str, line: Mapping[str, object]) -> InvoiceAmount:
    text = _field(location, line, "amount_usd", _AMOUNT, "an amount in dollars like 12.50")
    decimals = max(len(text.partition(".")[2]), _CENT_DECIMALS)
    return InvoiceAmount(Decimal(text) * _NANOS, Decimal(5).scaleb(-decimals - 1) * _NANOS)
