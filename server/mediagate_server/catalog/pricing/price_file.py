"""Price notation of model files: short forms for the usual kinds of price, expanded to tiers.

    price = { as_of = "2026-10-07", source = "price list", per_image = "0.04" }

    [model.price]
    as_of = "2026-10-06"
    source = "model page"
    tiers = [
        { where = { resolution_target = "480p" }, per_video_second = "0.03" },
        { where = { resolution_target = "1080p" }, per_video_second = "0.15" },
    ]

A price without any of this, and without tiers, is unknown. What has no short form is written out as
`rates` and `criteria`, whose fields are those of prices.py.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

_MILLION: Final = 1_000_000
_INPUT_TOKENS: Final = ("token_input_count", "input_token_count")
_OUTPUT_TOKENS: Final = ("token_output_count", "output_token_count")

SHORT_RATES: Final[Mapping[str, tuple[tuple[str, ...], int]]] = MappingProxyType(
    {
        "per_million_tokens_read": (_INPUT_TOKENS, _MILLION),
        "per_million_tokens_written": (_OUTPUT_TOKENS, _MILLION),
        "per_thousand_tokens_read": (_INPUT_TOKENS, 1_000),
        "per_thousand_characters": (("character_input_count",), 1_000),
        "per_image": (("image_output_count", "image_count", "output_count"), 1),
        "per_input_megapixel": (("image_input_megapixels",), 1),
        "per_output_megapixel": (("image_output_megapixels",), 1),
        "per_video": (("video_output_count", "output_count"), 1),
        "per_video_second": (("video_output_duration_seconds",), 1),
        "per_audio": (("audio_output_count", "output_count"), 1),
        "per_audio_second": (("audio_output_duration_seconds",), 1),
        "per_run_second": (("predict_time",), 1),
    }
)
"""Short form, the metric's names upstream, newest first, and the number of units of the price.
`output_count` is our own count, where upstream reports none."""


def expand_price(price: Any) -> Any:
    """Expand a price to its full form. What is not a table is left for validation to reject."""
    if not isinstance(price, Mapping):
        return price
    plain = {name: value for name, value in price.items() if name not in SHORT_RATES}
    rates = _expand_rates(price)
    if rates and "tiers" not in plain:
        return {**plain, "tiers": [{"rates": rates}]}
    tiers = plain.get("tiers", [])
    if isinstance(tiers, list) and not rates:
        return {**plain, "tiers": [_expand_tier(tier) for tier in tiers]}
    return price


def _expand_tier(tier: Any) -> Any:
    if not isinstance(tier, Mapping):
        return tier
    plain = {name: value for name, value in tier.items() if name not in {*SHORT_RATES, "where"}}
    if rates := _expand_rates(tier):
        plain["rates"] = [*rates, *plain.get("rates", [])]
    where = tier.get("where")
    if isinstance(where, Mapping):
        equal = [{"metric": name, "equals": _word(value)} for name, value in where.items()]
        plain["criteria"] = [*equal, *plain.get("criteria", [])]
    elif where is not None:
        plain["where"] = where
    return plain


def _expand_rates(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"metrics": SHORT_RATES[name][0], "usd": usd, "per": SHORT_RATES[name][1]}
        for name, usd in table.items()
        if name in SHORT_RATES
    ]


def _word(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value
