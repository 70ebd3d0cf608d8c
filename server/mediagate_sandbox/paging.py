"""Pagination with opaque cursors and absolute links, as in all of Replicate's lists.

Entries are numbered and shown in falling order, so a page stays the same while new entries come.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from yarl import URL

from mediagate_sandbox.api_errors import bad_request

Entry = TypeVar("Entry")


def page_json(
    entries: Sequence[Entry],
    number: Callable[[Entry], int],
    show: Callable[[Entry], dict[str, Any]],
    *,
    url: URL,
    size: int,
) -> dict[str, Any]:
    """Return one page of `entries`, whose numbers descend; filters of the request's `url` stay.

    Raises ApiError (400) for a cursor that was not given out by this function.
    """
    page = list(entries)
    cursor = url.query.get("cursor")
    if cursor is not None:
        older, at = _read(cursor)
        if older:
            page = [each for each in page if number(each) < at][:size]
        else:
            page = [each for each in page if number(each) > at][-size:]
    page = page[:size]
    links: dict[str, str | None] = {"previous": None, "next": None}
    if page and number(page[0]) < number(entries[0]):
        links["previous"] = _link(url, f"newer:{number(page[0])}")
    if page and number(page[-1]) > number(entries[-1]):
        links["next"] = _link(url, f"older:{number(page[-1])}")
    return {**links, "results": [show(each) for each in page]}


def _link(url: URL, position: str) -> str:
    cursor = base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")
    return str(url.update_query(cursor=cursor))


def _read(cursor: str) -> tuple[bool, int]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        side, _, number = base64.urlsafe_b64decode(padded).decode("ascii").partition(":")
        if side in ("older", "newer"):
            return side == "older", int(number)
    except (binascii.Error, ValueError):
        pass
    raise bad_request("Invalid cursor")
