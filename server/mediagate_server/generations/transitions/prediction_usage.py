"""Usage of a prediction from its metrics: tokens, images, seconds; and the text of its output."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from mediagate_server.store.records import Usage
from mediagate_server.upstream.port import Prediction

_NUMBERS = (Decimal, int)
_MOST: Final = 2**63 - 1
_MOST_IMAGES: Final = 2**31 - 1
_LONGEST: Final = 9_223_372_036
"""Seconds whose nanoseconds fit into 64 bits."""


def output_text(output: Any) -> str | None:
    """A text in one of its two usual forms, whole; None where it is in neither."""
    if isinstance(output, str):
        return output
    if not isinstance(output, list):
        return None
    try:
        return "".join(output)
    except TypeError:  # Not all of them are texts; a thousand tokens need not be asked one by one.
        return None


def usage_from(prediction: Prediction) -> Usage:
    """What upstream says was used. It has spelled the same metric in more than one way.

    What the contract has no room for, and what is negative, is not known.
    """
    metrics = prediction.metrics or {}
    used = Usage(
        input_tokens=_integer(metrics, "token_input_count", "input_token_count"),
        output_tokens=_integer(metrics, "token_output_count", "output_token_count"),
        input_characters=_integer(metrics, "character_input_count"),
        images=_integer(metrics, "image_output_count", "image_count"),
        media_seconds=_seconds(
            metrics, "video_output_duration_seconds", "audio_output_duration_seconds"
        ),
        run_seconds=_seconds(metrics, "predict_time"),
    )
    return clamp_usage(used)


def clamp_usage(used: Usage) -> Usage:
    """The same without the figures that the contract or the store has no room for."""
    bounds = {"images": _MOST_IMAGES, "media_seconds": _LONGEST, "run_seconds": _LONGEST}
    figures: dict[str, Any] = {}
    for name in Usage.__struct_fields__:
        figure = getattr(used, name)
        fits = figure is not None and 0 <= figure <= bounds.get(name, _MOST)
        figures[name] = figure if fits else None
    return Usage(**figures)


def _integer(metrics: Mapping[str, Any], *names: str) -> int | None:
    value = _first(metrics, names)
    return None if value is None else int(value)


def _seconds(metrics: Mapping[str, Any], *names: str) -> float | None:
    value = _first(metrics, names)
    return None if value is None else float(value)


def _first(metrics: Mapping[str, Any], names: tuple[str, ...]) -> Decimal | int | None:
    for name in names:
        value = metrics.get(name)
        if isinstance(value, _NUMBERS) and not isinstance(value, bool):
            return value
    return None
