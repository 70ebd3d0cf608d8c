"""An invoice's lines out of a file: CSV with a heading, or JSON.

    model,amount_usd,month
    black-forest-labs/flux-dev,12.50,2026-10

    {"month": "2026-10", "lines": [{"model": "black-forest-labs/flux-dev", "amount_usd": "12.50"}]}

JSON may also be the list alone. A model may have several lines, and any of its names (naming.py).
Other columns are not looked at. Amounts are dollars: `12.5`, `$1,234.56`, `-3` for a credit note.
"""

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from mediagate_cli.naming import plain_name

MODEL_COLUMNS: Final = ("model", "slug", "model_name")
AMOUNT_COLUMNS: Final = ("amount_usd", "amount", "usd", "cost_usd", "cost", "total")
MONTH_COLUMN: Final = "month"

_AMOUNT: Final = re.compile(r"-?\$?-?(\d{1,15}|\d{1,3}(,\d{3}){1,4})?(\.\d{1,18})?", re.ASCII)
_MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])", re.ASCII)
_NANOS: Final = 10**9


class InvoiceError(ValueError):
    """The file is no invoice that can be read. The text says where and why."""


@dataclass(frozen=True, slots=True)
class Amount:
    """What an invoice says of one model, in nano-dollars.

    `slack` is how far it may be off by the rounding of its lines alone: half a unit of the last
    place of each.
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
        if stated := str(line.get(MONTH_COLUMN) or "").strip():
            months.add(stated)
    if not found:
        raise InvoiceError("it has no lines")
    if len(months) > 1:
        raise InvoiceError(f"it is of several months: {', '.join(sorted(months))}")
    if bad := [one for one in months if not _MONTH.fullmatch(one)]:
        raise InvoiceError(f"{bad[0]!r} is not a month like 2026-10")
    return Invoice(next(iter(months), ""), {model: _sum(each) for model, each in found.items()})


def _of_csv(text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    text = text.lstrip()
    heading, _, _ = text.partition("\n")
    reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=heading.count))
    names = [_column(name) for name in next(reader, ())]
    for wanted in (MODEL_COLUMNS, AMOUNT_COLUMNS):
        if not set(wanted) & set(names):
            raise InvoiceError(f"it has no column {wanted[0]!r}")
    for values in reader:
        if any(value.strip() for value in values):
            yield f"line {reader.line_num}", dict(zip(names, values, strict=False))


def _of_json(text: str) -> tuple[str, Iterable[tuple[str, Mapping[str, Any]]]]:
    try:
        document = json.loads(text, parse_float=Decimal)
    except ValueError as error:
        raise InvoiceError(f"it is not JSON: {error}") from None
    month = ""
    if isinstance(document, dict):
        month, document = str(document.get(MONTH_COLUMN) or ""), document.get("lines")
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
        raise InvoiceError(f"{place}: {value.strip()!r} is no model")
    return name


def _amount(place: str, line: Mapping[str, Any]) -> Decimal:
    value = next((line[name] for name in AMOUNT_COLUMNS if name in line), None)
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise InvoiceError(f"{place}: it has no amount")
    text = str(value).strip() if isinstance(value, str) else f"{value:f}"
    if not _AMOUNT.fullmatch(text) or not any(letter.isdigit() for letter in text):
        raise InvoiceError(f"{place}: {text!r} is not a sum in dollars")
    return Decimal(text.replace("$", "").replace(",", ""))


def _sum(amounts: Iterable[Decimal]) -> Amount:
    amounts = list(amounts)
    half = [Decimal(5).scaleb(int(amount.as_tuple().exponent) - 1) for amount in amounts]
    return Amount(sum(amounts, Decimal(0)) * _NANOS, sum(half, Decimal(0)) * _NANOS, len(amounts))
