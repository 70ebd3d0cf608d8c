"""Which inputs of models are safety checks, and which values weaken them."""

import sys
from typing import Any

import pytest

from mediagate_sandbox.models import load_catalog
from mediagate_server.catalog.models.model_file import ModelFiles
from mediagate_server.catalog.planning.safety_inputs import is_safety_input, weakens_safety

WEAKENING: list[tuple[str, Any, Any]] = [
    ("disable_safety_checker", True, False),
    ("disable_safety_checker", True, None),
    ("disable_safety_checker", "true", None),
    ("disable_safety_checker", 1, False),
    ("disableSafetyChecker", True, False),
    ("disablesafetychecker", True, False),
    ("Disable-Safety-Checker", True, False),
    ("disable_safety_filter", True, False),
    ("skip_safety_check", True, False),
    ("skip_nsfw_check", True, False),
    ("bypass_moderation", True, None),
    ("no_safety", True, False),
    ("remove_safety_checker", True, False),
    ("uncensored", True, False),
    ("unfiltered", True, False),
    ("allow_nsfw", True, False),
    ("allow_nsfw", True, None),
    ("nsfw", True, False),
    ("enable_nsfw", True, False),
    ("unsafe_mode", True, False),
    ("explicit", True, False),
    ("enable_safety_checker", False, True),
    ("enable_safety_checker", False, None),
    ("enable_safety_checker", "false", None),
    ("enable_safety_checker", "off", None),
    ("enable_safety_checker", 0, True),
    ("run_safety_checker", False, True),
    ("safety_checker", False, True),
    ("safety_check", "no", None),
    ("nsfw_filter", False, True),
    ("filter_nsfw", False, True),
    ("block_nsfw", False, True),
    ("hide_nsfw", False, True),
    ("content_filter", False, True),
    ("moderate_output", False, True),
    ("guardrails", False, True),
    ("safe_mode", False, True),
    ("safe_prompt", False, True),
    ("safety_tolerance", 6, 2),
    ("safety_tolerance", 3, 2),
    ("safety_tolerance", 6, None),
    ("safety_tolerance", 2.5, 2),
    ("nsfw_threshold", 0.99, 0.5),
    ("nsfw_threshold", 0.1, 0.5),
    ("safety_level", 0, 3),
    ("safety_filter_level", "block_none", "block_only_high"),
    ("safety_filter_level", "block_only_high", "block_medium_and_above"),
    ("safety_filter_level", "BLOCK_NONE", None),
    ("safety_filter_level", "block-fewest", "block_some"),
    ("safety_filter_level", "off", "block_only_high"),
    ("moderation", "low", "auto"),
    ("moderation", "none", "auto"),
    ("moderation", "low", None),
    ("moderation", "off", None),
    ("person_generation", "allow_all", "allow_adult"),
    ("personGeneration", "ALLOW_ALL", "dont_allow"),
    ("safety_settings", [{"category": "HATE", "threshold": "BLOCK_NONE"}], None),
    ("safety_settings", {"hate": "block_none"}, None),
    ("extra", {"deep": [{"enable_safety_checker": False}]}, None),
    ("pipeline", {"disable_safety_checker": True}, None),
]
NOT_WEAKENING: list[tuple[str, Any, Any]] = [
    ("disable_safety_checker", False, False),
    ("disable_safety_checker", False, True),
    ("disable_safety_checker", False, None),
    ("disable_safety_checker", True, True),
    ("disable_safety_checker", None, False),
    ("enable_safety_checker", True, False),
    ("enable_safety_checker", True, None),
    ("allow_nsfw", False, True),
    ("block_nsfw", True, False),
    ("disable_nsfw", True, False),
    ("no_nsfw", True, False),
    ("nsfw_filter", True, None),
    ("safety_tolerance", 2, 2),
    ("safety_tolerance", 1, 2),
    ("safety_tolerance", 0, 2),
    ("safety_filter_level", "block_low_and_above", "block_only_high"),
    ("safety_filter_level", "block_only_high", "block_only_high"),
    ("safety_filter_level", "block_low_and_above", None),
    ("moderation", "auto", "auto"),
    ("moderation", "strict", "auto"),
    ("person_generation", "dont_allow", "allow_adult"),
    ("safety_settings", [{"category": "HATE", "threshold": "BLOCK_LOW_AND_ABOVE"}], None),
    ("safety_policy", "Say nothing of the war.", None),
    ("safety_policy", "Say nothing of the war.", ""),
    ("safety_identifier", "user-1", None),
    ("go_fast", True, False),
    ("prompt", "disable_safety_checker nsfw", None),
    ("filter", "lanczos", "none"),
    ("safe_area", True, False),
    ("guidance", 3.5, 3),
    ("content_type", "image/png", None),
    ("output_format", "off", "png"),
    ("image", "https://example.com/nsfw.png", None),
    ("sensitivity", 0.9, 0.5),
    ("explicit_duration", True, False),
]


@pytest.mark.parametrize(("name", "value", "default"), WEAKENING)
def test_values_that_weaken_a_check(name: str, value: Any, default: Any) -> None:
    """Switches of either sense, levels, tolerances, and what lies within objects."""
    assert weakens_safety(name, value, default)


@pytest.mark.parametrize(("name", "value", "default"), NOT_WEAKENING)
def test_values_that_do_not_weaken_a_check(name: str, value: Any, default: Any) -> None:
    """The default, what is stricter, free text, and names that only sound like it."""
    assert not weakens_safety(name, value, default)


def test_unknown_words_of_a_closed_list_are_refused() -> None:
    """Nobody knows whether it is weaker."""
    assert weakens_safety("moderation", "casual", "auto", allowed_values=("auto", "casual"))
    assert not weakens_safety("moderation", "auto", "auto", allowed_values=("auto", "casual"))


def test_safety_inputs_of_both_catalogs_are_recognized() -> None:
    """By name alone, in the models of the catalog and in those of the sandbox."""
    names = {name for model in ModelFiles.shipped().models() for name in model.inputs}
    names |= {name for model in load_catalog() for name in model.inputs}
    assert {name for name in names if is_safety_input(name)} == {
        "disable_safety_checker",
        "disable_safety_filter",
        "moderation",
        "safety_filter_level",
        "safety_tolerance",
    }


def test_the_name_cache_is_bounded_in_bytes() -> None:
    """What is remembered of names is bounded in bytes, and their ends say what they are."""
    name = "x" * 1_000_000 + "_disable_safety_checker"
    references = sys.getrefcount(name)
    assert is_safety_input(name)
    assert weakens_safety(name, value=True, default=False)
    assert weakens_safety("options", {name: True}, {name: False})
    assert sys.getrefcount(name) == references
