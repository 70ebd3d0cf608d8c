"""A check is made weaker by texts for numbers and switches, by names within, and by leaving out."""

from typing import Any

import pytest

from mediagate_server.catalog.planning.safety_inputs import weakens_safety

OFF = ["false", "f", "no", "n", "off", "0", "0.0", "0e0", " FALSE ", "F", "Disabled", "\uff10",
       "never", "nope", "2", "", "null", "none"]  # fmt: skip
ON = ["true", "t", "yes", "y", "on", "1", "1.0", "+1", " TRUE ", "T", "Y", "\uff11", "enabled",
      "sure", "2", "0x1"]  # fmt: skip
WEAKER: list[tuple[str, Any, Any]] = [
    ("safety_tolerance", "6", 2),
    ("safety_tolerance", "6", "2"),
    ("safety_tolerance", " 6.0 ", 2),
    ("safety_tolerance", "1", None),
    ("safety_tolerance", True, None),
    ("safety_tolerance", "six", 2),
    ("safety_tolerance", "nan", 2),
    ("safety_tolerance", -1, 2),
    ("disable_safety_checker", "true", "false"),
    ("enable_safety_checker", "false", "true"),
    ("moderation", "false", "auto"),
    ("moderation", "0", "auto"),
    ("blocklist", "", "a,b"),
    ("safety_checker", {"disable": True}, None),
    ("safety_checker", {"disable": "t"}, None),
    ("safety_checker", {"enabled": False}, None),
    ("safety_checker", {"options": {"disable": True}}, None),
    ("safety_checker", [{"off": True}], None),
    ("safety", {"disabled": True}, None),
    ("safety", {"x" * 200 + "_disabled": True}, None),
    ("moderation", {"skip": True}, None),
    ("moderation", {"mode": "whatever"}, None),
    ("moderation", {"mode": None}, None),
    ("disable", {"safety_checker": True}, None),
    ("extra", {"safety": {"bypass": "yes"}}, None),
    ("extra", {"skip": {"moderation": 1}}, None),
    ("disable_safety_checker", {"safety": True}, None),
    ("unfiltered", {"enable_safety_checker": False}, None),
    ("ignore_errors", {"enable_safety_checker": False}, None),
    ("safety_settings", [], None),
    ("safety_settings", [], [{"category": "HATE"}]),
    ("safety_settings", {}, {"hate": "block_some"}),
    ("safety_settings", {"sex": "block_most"}, {"hate": "block_some", "sex": "block_some"}),
    ("safety_settings", {"hate": []}, None),
    ("blocklist", [], None),
    ("blocklist", ["a"], ["a", "b"]),
    ("extra", {"blocklist": []}, None),
]
AS_STRICT: list[tuple[str, Any, Any]] = [
    ("safety_tolerance", "1", 2),
    ("safety_tolerance", "2", 2),
    ("safety_tolerance", "1", "2"),
    ("disable_safety_checker", " False ", None),
    ("disable_safety_checker", "off", None),
    ("disable_safety_checker", "0.0", False),
    ("disable_safety_checker", "n", False),
    ("enable_safety_checker", "T", None),
    ("enable_safety_checker", "1", False),
    ("moderation", "auto", "off"),
    ("safety_checker", {"disable": False}, None),
    ("safety_checker", {"enabled": "yes"}, None),
    ("safety_settings", {"hate": "block_some"}, {"hate": "block_some"}),
    ("safety_settings", {"hate": "block_most"}, {"hate": "block_some"}),
    ("safety_settings", {"tolerance": 1}, {"tolerance": 2}),
    ("blocklist", ["a", "b", "c"], ["a", "b"]),
    ("blocklist", ["a"], None),
    ("blocklist", [], []),
    ("extra", {}, None),
    ("ignore_errors", {"enable_safety_checker": True}, None),
    ("extra", {"disable": True, "words": []}, None),
    ("safety_policy", "Say nothing of the war.", None),
]


@pytest.mark.parametrize("text", OFF)
def test_texts_that_switch_a_check_off(text: str) -> None:
    """Whatever a model may read as false, and whatever nobody knows how it reads."""
    assert weakens_safety("enable_safety_checker", text, default=True)
    assert weakens_safety("enable_safety_checker", text, None)
    assert weakens_safety("options", {"nsfw_filter": {"enabled": text}}, None)


@pytest.mark.parametrize("text", ON)
def test_texts_that_switch_off_by_a_negated_name(text: str) -> None:
    """Whatever a model may read as true."""
    assert weakens_safety("disable_safety_checker", text, default=False)
    assert weakens_safety("disable_safety_checker", text, None)
    assert weakens_safety("allow_nsfw", text, default=False)


@pytest.mark.parametrize(("name", "value", "default"), WEAKER)
def test_weaker_spellings(name: str, value: Any, default: Any) -> None:
    """Figures in texts, negations within, and containers that lack what they had."""
    assert weakens_safety(name, value, default)


@pytest.mark.parametrize(("name", "value", "default"), AS_STRICT)
def test_equally_strict_spellings(name: str, value: Any, default: Any) -> None:
    """In the same spellings."""
    assert not weakens_safety(name, value, default)


def test_names_and_texts_of_any_length() -> None:
    """They are read in time that grows with their length; a slow one is seen as a hung test."""
    deep: Any = True
    for _ in range(2_000):
        deep = {"safety_checker": deep}
    weakens_safety("moderation", deep, None)
    for text in ("a_" * 8_192, "safety" * 2_700, "1" * 16_384, " " * 16_384, "aA" * 8_192):
        weakens_safety("moderation", text, None)
        weakens_safety("moderation", {text: {text: True}}, None)
