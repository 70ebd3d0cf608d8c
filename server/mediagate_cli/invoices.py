"""An invoice's lines out of a file: CSV with a heading, or JSON.

    model,amount_usd,month
    black-forest-labs/flux-dev,12.50,2026-10

    {"month": "2026-10", "lines": [{"model": "black-forest-labs/flux-dev", "amount_usd": "12.50"}]}

JSON may also be the list alone. A model may have several lines, and any of its names (naming.py).
Other columns are not looked at. Amounts are dollars: `12.5`, `$1,234.56`, `-3` for a credit note.
What might mean another sum (a decimal comma, a row with more cells than the heading) is refused.
"""

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import zip_longest
from typing import Any, Final

from mediagate_cli.naming import plain_name

MODEL_COLUMNS: Final = ("model", "slug", "model_name")
AMOUNT_COLUMNS: Final = ("amount_usd", "amount", "usd", "cost_usd", "cost", "total")
MONTH_COLUMN: Final = "month"

_AMOUNT: Final = re.compile(r"-?\$?-?(\d{1,15}|[1-9]\d{0,2}(,\d{3}){1,4})?(\.\d{1,18})?", re.ASCII)
_MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])", re.ASCII)
_NANOS: Final = 10**9
_A_CENT: Final = -2
_DIGITS: Final = 18
"""A number with more of them, on either side of the point, is no sum and is not written out."""
_SHOWN: Final = 80
"""As much as an error repeats of what is wrong."""


class InvoiceError(ValueError):
    """The file is no invoice that can be read. The text says where and why."""


@dataclass(frozen=True, slots=True)
class Amount:
    """What an invoice says of one model, in nano-dollars.

    `slack` is how far it may be off by the rounding of its lines alone: half a unit of the last
    place of each, and never more than half a cent. Invoices are in cents or finer; that fewer
    places are shown says nothing, as numbers in JSON come without the zeros at their end.
    """

    nanos: Decimal
    slack: Decimal
    lines: int

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.nanos + other.nanos, self.slack + other.slack, self.lines + other.lines)


@dataclass(frozen=True, slots=True)
class Invoice:
    """Amounts by model, by the plain name that each has there. `month`: empty where it has none."""

    month: str
    amounts: Mapping[str, Amount]


def read_invoice(text: str) -> Invoice:
    """Return what a file says. Raises InvoiceError."""
    text = text.removeprefix("\ufeff")
    month, lines = _of_json(text) if text.lstrip()[:1] in ("[", "{") else ("", _of_csv(text))
    months = {month} if month else set()
    found: defaultdict[str, list[Decimal]] = defaultdict(list)
    for place, line in lines:
        model = _model(place, line)
        found[model].append(_amount(place, line))
        if stated := _month(place, line.get(MONTH_COLUMN)):
            months.add(stated)
    if not found:
        raise InvoiceError("it has no lines")
    if len(months) > 1:
        raise InvoiceError(f"it is of several months: {', '.join(sorted(months))}")
    return Invoice(next(iter(months), ""), {model: _sum(each) for model, each in found.items()})


def _of_csv(text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    begun = text.lstrip()
    before = text.removesuffix(begun).count("\n")
    heading, _, _ = begun.partition("\n")
    reader = csv.reader(io.StringIO(begun), delimiter=max(",;\t", key=heading.count))
    try:
        names = [_column(name) for name in next(reader, ())]
        _check_heading(names)
        for values in reader:
            if any(value.strip() for value in values):
                place = f"line {before + reader.line_num}"
                if len(values) > len(names):
                    raise InvoiceError(
                        f"{place}: it has {len(values)} cells, the heading {len(names)}; "
                        "a sum with a comma in it needs quotes"
                    )
                # Cells that are not there are empty, so that no other column stands in for them.
                yield place, dict(zip_longest(names, values))
    except csv.Error as error:
        raise InvoiceError(f"line {before + reader.line_num}: {error}") from None


def _check_heading(names: list[str]) -> None:
    """Every column that counts must be there, and once. A month need not be."""
    columns = [MONTH_COLUMN]
    for wanted in (MODEL_COLUMNS, AMOUNT_COLUMNS):
        if not (found := [name for name in wanted if name in names]):
            raise InvoiceError(f"it has no column {wanted[0]!r}")
        columns.append(found[0])
    if twice := [column for column in columns if names.count(column) > 1]:
        raise InvoiceError(f"it has more than one column {twice[0]!r}")


def _of_json(text: str) -> tuple[str, Iterable[tuple[str, Mapping[str, Any]]]]:
    try:
        document = json.loads(text, parse_float=Decimal)
    except ValueError as error:
        raise InvoiceError(f"it is not JSON: {error}") from None
    except RecursionError:
        raise InvoiceError("it is nested too deep for an invoice") from None
    month = ""
    if isinstance(document, dict):
        month, document = _month("month", document.get(MONTH_COLUMN)), document.get("lines")
    if not isinstance(document, list) or not all(isinstance(one, dict) for one in document):
        raise InvoiceError("it is neither a list of lines nor an object with `lines`")
    return month, [
        (f"entry {number}", {_column(name): value for name, value in line.items()})
        for number, line in enumerate(document, 1)
    ]


def _column(name: str) -> str:
    return name.strip().casefold().replace(" ", "_")


def _model(place: str, line: Mapping[str, Any]) -> str:
    value = next((line[name] for name in MODEL_COLUMNS if name in line), None)
    if not isinstance(value, str) or not value.strip():
        raise InvoiceError(f"{place}: it names no model")
    if not (name := plain_name(value)):
        raise InvoiceError(f"{place}: {_quoted(value.strip())} is no model")
    return name


def _month(place: str, value: object) -> str:
    """Return the month, empty where there is none."""
    stated = "" if value is None else value
    if not isinstance(stated, str):
        raise InvoiceError(f"{place}: a month is a text like 2026-10")
    if (stated := stated.strip()) and not _MONTH.fullmatch(stated):
        raise InvoiceError(f"{place}: {_quoted(stated)} is not a month like 2026-10")
    return stated


def _amount(place: str, line: Mapping[str, Any]) -> Decimal:
    value = next((line[name] for name in AMOUNT_COLUMNS if name in line), None)
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise InvoiceError(f"{place}: it has no amount")
    text = _plain(value) if isinstance(value, Decimal) else str(value).strip()
    if not _AMOUNT.fullmatch(text) or not any(letter.isdigit() for letter in text):
        raise InvoiceError(f"{place}: {_quoted(text)} is not a sum in dollars")
    return Decimal(text.replace("$", "").replace(",", ""))


def _plain(number: Decimal) -> str:
    """Return a number without an exponent, unless it has more digits than any sum."""
    exponent = int(number.as_tuple().exponent)
    return f"{number:f}" if exponent >= -_DIGITS and number.adjusted() < _DIGITS else str(number)


def _quoted(text: str) -> str:
    """Return the beginning of a text in quotes, in one line."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def _sum(amounts: Iterable[Decimal]) -> Amount:
    amounts = list(amounts)
    places = [min(int(amount.as_tuple().exponent), _A_CENT) for amount in amounts]
    half = [Decimal(5).scaleb(place - 1) for place in places]
    return Amount(sum(amounts, Decimal(0)) * _NANOS, sum(half, Decimal(0)) * _NANOS, len(amounts))
