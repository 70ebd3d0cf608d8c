"""Value checks of fault plans: each returns a validator that returns the parsed value.

They raise ValueError with what the value must be; who reads the plan adds the field's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from mediagate_sandbox.urls import is_origin, is_url

Check = Callable[[Any], Any]

_FACTOR = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,12})?")


def integer(least: int, most: int) -> Check:
    """An integer in a range."""

    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return value

    return check


def number(least: float, most: float) -> Check:
    """A number in a range."""

    def check(value: Any) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not least <= value <= most:
            raise ValueError(f"must be a number from {least:g} to {most:g}")
        return float(value)

    return check


def integer_choice(*numbers: int) -> Check:
    """One of some integers."""

    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value not in numbers:
            raise ValueError(f"must be one of {', '.join(map(str, numbers))}")
        return value

    return check


def text_choice(*words: str) -> Check:
    """One of some words."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return value

    return check


def as_bool(value: Any) -> bool:
    """True or false."""
    if value is True or value is False:
        return bool(value)
    raise ValueError("must be true or false")


def text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text")
    return value


def optional_text(value: Any) -> str | None:
    """A text, or null. TOML has no null: there, leave it out or write an empty text."""
    if value is None or value == "":
        return None
    return text(value)


def texts(value: Any) -> tuple[str, ...]:
    """A list of texts."""
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise ValueError("must be a list of texts")
    return tuple(value)


def origin(value: Any) -> str:
    """Scheme and host of a URL, without a path: one that can be called, wherever it leads."""
    if not isinstance(value, str) or not is_origin(value):
        raise ValueError("must be an origin such as https://elsewhere.example")
    return value


def url(value: Any) -> str:
    """An absolute URL, without anything that a header cannot hold."""
    if not isinstance(value, str) or not is_url(value):
        raise ValueError("must be a URL such as https://elsewhere.example/path")
    return value


def factor(value: Any) -> str:
    """A decimal as a text, so that no digit of it is lost."""
    if not isinstance(value, str) or not _FACTOR.fullmatch(value):
        raise ValueError('must be a decimal as a text, such as "1.1"')
    return value
