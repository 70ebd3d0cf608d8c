"""Price list of the sandbox, from `prices/*.toml`, and the charge of a run.

It shares nothing with any client's price table, so that the two can disagree. A file names models
and bills each in one of three ways:

    ["owner/name"]
    lines = ["$0.05 per video_output_duration_seconds if resolution_target is 480p"]

    ["owner/other"]
    hardware = "gpu-l40s"           # by the second of predict_time, at the rate in [hardware]

    ["owner/third"]
    unpriced = "why there is no price"

A line is `$<decimal> per [thousand | million] <metric> [if <condition> [and <condition>]...]`; a
condition is `<metric> is <word>`, `<metric> above <number>` or `<metric> up to <number>`. All lines
whose conditions hold are billed. Sums are exact fractions of the digits that the metrics are
reported with, rounded once, half up, to a nano-dollar.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

from mediagate_sandbox.run_metrics import Metrics

NANOS_PER_DOLLAR = 10**9

_AMOUNT = r"\d{1,9}(?:\.\d{1,12})?"
_LINE = re.compile(
    rf"\$(?P<usd>{_AMOUNT}) per (?:(?P<size>thousand|million) )?(?P<metric>[a-z_]+)"
    r"(?: if (?P<conditions>.+))?"
)
_CONDITION = re.compile(rf"([a-z_]+) (?:(is) (\S+)|(above|up to) ({_AMOUNT}))")
_SIZES = {None: 1, "thousand": 1000, "million": 1_000_000}
_WAYS = ("lines", "hardware", "unpriced")


class PriceListError(ValueError):
    """Invalid price file; the message names the file, the model and the error."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Condition on one metric of a price line."""

    metric: str
    how: str
    value: str

    def holds(self, metrics: Mapping[str, Any]) -> bool:
        """Whether the condition is met; not if the metric is missing."""
        match = metrics.get(self.metric)
        if match is None:
            return False
        if self.how == "is":
            return str(match).lower() == self.value.lower()
        if isinstance(match, str | bool):
            return False
        above = _exactly(match) > Fraction(self.value)
        return above if self.how == "above" else not above


@dataclass(frozen=True, slots=True)
class PriceLine:
    """Price of one metric in dollars per unit, under conditions."""

    metric: str
    usd: Fraction
    conditions: tuple[Condition, ...] = ()

    def fits(self, metrics: Mapping[str, Any]) -> bool:
        """Whether this line applies to a run with these metrics."""
        return all(condition.holds(metrics) for condition in self.conditions)


@dataclass(frozen=True, slots=True)
class Price:
    """Price of one model; without lines it is unpriced, and `unpriced` is the reason."""

    lines: tuple[PriceLine, ...]
    unpriced: str | None = None


@dataclass(frozen=True, slots=True)
class Charge:
    """Charge of one run."""

    nanos: int | None
    """Nano-dollars; None where there is no price for it."""
    billed: Mapping[str, Any]
    """The metrics that were billed, as they were reported."""
    unmetered: tuple[str, ...] = ()
    """Metrics that a line bills by and the run did not report: nothing was billed for them."""
    unpriced: str | None = None
    """Why there is no price."""


class PriceList:
    """Prices by slug."""

    def __init__(self, prices: Mapping[str, Price]) -> None:
        """Create a price list."""
        self._prices = prices

    def __iter__(self) -> Iterator[str]:
        """Iterate over the slugs."""
        return iter(self._prices)

    def price(self, slug: str) -> Price:
        """Return the price of a model; unpriced if no file has it."""
        return self._prices.get(slug, _UNLISTED)

    def charge(self, slug: str, metrics: Metrics, factor: Fraction = Fraction(1)) -> Charge:
        """Return the charge of a run with these metrics; `factor` multiplies the price."""
        price = self.price(slug)
        if price.unpriced is not None:
            return Charge(None, {}, unpriced=price.unpriced)
        lines = [line for line in price.lines if line.fits(metrics)]
        reported = [line for line in lines if _is_amount(metrics.get(line.metric))]
        missing = {line.metric for line in lines if line not in reported}
        if not lines:
            # Conditions ask for what only a finished run reports: one that is not, used nothing.
            missing = {line.metric for line in price.lines}
            if any(_is_amount(metrics.get(metric)) for metric in missing):
                return Charge(None, {}, unpriced="no line of the price list fits this run")
        usd = sum((line.usd * _exactly(metrics[line.metric]) for line in reported), Fraction(0))
        return Charge(
            nanos=round_half_up(usd * factor * NANOS_PER_DOLLAR),
            billed={line.metric: metrics[line.metric] for line in reported},
            unmetered=tuple(sorted(missing)),
        )


_UNLISTED = Price((), unpriced="no price file names this model")


def round_half_up(amount: Fraction) -> int:
    """Round to the nearest integer, halves up."""
    return (2 * amount.numerator + amount.denominator) // (2 * amount.denominator)


def load_price_list(extra: Path | None = None) -> PriceList:
    """Load the sandbox's price files, and overrides of a user's file.

    Raises PriceListError for a file that cannot be used, OSError for one that cannot be read.
    """
    folder = resources.files(__package__).joinpath("prices")
    files = sorted(
        (each for each in folder.iterdir() if each.name.endswith(".toml")),
        key=lambda each: each.name,
    )
    own = [(each.name, _parsed(each.name, each.read_text("utf-8"))) for each in files]
    users = [] if extra is None else [(extra.name, _parsed(extra.name, extra.read_text("utf-8")))]
    rates = _hardware([*own, *users])
    return PriceList(_prices(own, rates) | _prices(users, rates))


def _prices(
    tables: Iterable[tuple[str, Mapping[str, Any]]], rates: Mapping[str, Fraction]
) -> dict[str, Price]:
    prices: dict[str, Price] = {}
    for name, table in tables:
        for slug in table.keys() - {"hardware"}:
            if slug in prices:
                raise PriceListError(f"{name}: {slug} has a price in another file too")
            prices[slug] = _price(f"{name}: {slug}", table[slug], rates)
    return prices


def _parsed(name: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PriceListError(f"{name}: not TOML: {error}") from None


def _hardware(tables: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Fraction]:
    rates: dict[str, Fraction] = {}
    for name, table in tables:
        for kind, usd in table.get("hardware", {}).items():
            if not isinstance(usd, str) or not re.fullmatch(_AMOUNT, usd):
                raise PriceListError(f'{name}: hardware.{kind}: must be dollars such as "0.0014"')
            rates[kind] = Fraction(usd)
    return rates


def _price(where: str, entry: Any, hardware: Mapping[str, Fraction]) -> Price:
    if not isinstance(entry, dict) or len(entry) != 1 or not set(entry) <= set(_WAYS):
        raise PriceListError(f"{where}: takes exactly one of {', '.join(_WAYS)}")
    ((way, value),) = entry.items()
    if way == "lines" and isinstance(value, list) and value:
        return Price(tuple(_line(where, text) for text in value))
    if way == "hardware" and isinstance(value, str):
        if value not in hardware:
            raise PriceListError(f"{where}: hardware: no rate is known for {value}")
        return Price((PriceLine("predict_time", hardware[value]),))
    if way == "unpriced" and isinstance(value, str) and value:
        return Price((), unpriced=value)
    raise PriceListError(f"{where}: {way}: must be {'a list' if way == 'lines' else 'a text'}")


def _line(where: str, text: Any) -> PriceLine:
    match = _LINE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise PriceListError(f"{where}: lines: not a price line: {text!r}")
    conditions = tuple(
        _condition(where, each) for each in (match["conditions"] or "").split(" and ") if each
    )
    return PriceLine(match["metric"], Fraction(match["usd"]) / _SIZES[match["size"]], conditions)


def _condition(where: str, text: str) -> Condition:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise PriceListError(f"{where}: lines: not a condition: {text!r}")
    metric, equal, word, limit, number = match.groups()
    return Condition(metric, equal or limit, word or number)


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _exactly(value: Any) -> Fraction:
    """Return a metric as an exact fraction of its JSON digits."""
    return Fraction(str(value))
