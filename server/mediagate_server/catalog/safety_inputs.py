"""Safety inputs: a model's own inputs that switch or weaken the checks of its content.

There is no list of them: they are known by the words in their names (`disable_safety_checker`,
`safety_tolerance`, `moderation`, `nsfw_filter`). Whether a check may be weaker than the model, or
the operator's catalog, has it is the operator's decision in every rpc. A value that is as strict
as that default, or stricter, is anybody's.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

REFUSED: Final = "is not a caller's to set so: it weakens the model's safety checks"

_JOINTS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[\W_]+")
_CHECK: Final = re.compile(
    r"safety(?!identifier|id$|user)|(?<!un)safe(?:mode|prompt|search|check|guard|content|only|$)"
    r"|moderat(?:e|ion|or)|censor|guardrail|blocklist|blacklist|persongeneration|raifilter"
    r"|(?:content|prompt|profanity|toxic\w*|nsfw|nudity|explicit|adult|sensitive|word|unsafe)"
    r"(?:filter|check|screen|polic|classif|detect|guard)|unfiltered"
    r"|(?:filter|check|screen|detect)(?:content|prompt|profanity|nsfw|nudity|explicit|adult|unsafe)"
)
"""In the names of checks; written without what stands between words."""
_HAZARD: Final = re.compile(
    r"nsfw|unsafe|nudity|explicit(?:content|lyrics)?$|adult(?:content)?$|sensitivecontent|harmful"
)
"""In the names of what is let through, or kept out."""
_NEGATION: Final = re.compile(
    r"disable|skip|bypass|without|ignore|override|omit|deactivat|turnoff|remove|relax|suppress"
    r"|un(?:censor|filter|moderat)"
)
_KEEPING_OUT: Final = re.compile(r"block|hide|exclude|reject|disallow|prevent|forbid|filter")
_STATES: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "on", "yes", "enabled", "1"), True),
    **dict.fromkeys(("false", "no", "disabled", "0"), False),
}
_SCALES: Final = (
    ("block_low_and_above", "block_medium_and_above", "block_only_high", "block_few",
     "block_fewest", "block_none", "none", "off"),
    ("block_most", "block_some", "block_few", "block_fewest", "block_none", "none", "off"),
    ("strict", "auto", "low", "none", "off"),
    ("strict", "standard", "relaxed", "permissive", "none", "off"),
    ("dont_allow", "allow_adult", "allow_all"),
)  # fmt: skip
"""Words that levels are set by, from the strictest to the weakest."""
_LONGEST_NAME: Final = 128


@lru_cache(4096)
def is_safety_input(name: str) -> bool:
    """Whether an input of this name switches or tunes a check of the content."""
    compact = "".join(_words(name)) if len(name) <= _LONGEST_NAME else ""
    return bool(_CHECK.search(compact) or _HAZARD.search(compact))


def may_hold_safety_input(name: str, value: Any) -> bool:
    """Whether an input is one, or may hold one."""
    return isinstance(value, Mapping | list | tuple) or is_safety_input(name)


def weakens_safety(
    name: str, value: Any, default: Any, *, allowed_values: Collection[Any] = ()
) -> bool:
    """Whether this value makes a check weaker than it is by `default`.

    `default` None: it is not known, and only the strictest value is no weaker. Free text is none
    of a check's settings, unless `allowed_values` says that there are only some. Values within
    lists and objects are looked at by the names next to them.
    """
    if isinstance(value, Mapping | list | tuple):
        return value != default and any(
            weakens_safety(inner, each, None) for inner, each in _within(name, value)
        )
    if value is None or not is_safety_input(name):
        return False
    if value == default and isinstance(value, bool) is isinstance(default, bool):
        return False
    state = _state(value, default)
    if state is not None:
        return state is _weak_state(name)
    if isinstance(value, int | float):
        # A tolerance is strict where it is low. Of other figures nobody knows the direction.
        return not ("tolerance" in name.casefold() and _is_number(default) and value < default)
    return _is_weaker_word(str(value), default, is_listed=bool(allowed_values))


def _within(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What lies within, however deep, each with the nearest name that is a safety input's."""
    waiting = [(name, value)]
    while waiting:
        name, value = waiting.pop()
        if not isinstance(value, Mapping | list | tuple):
            yield name, value
            continue
        items = value.items() if isinstance(value, Mapping) else ((name, one) for one in value)
        for inner, one in items:
            nearest = inner if inner != name and is_safety_input(inner) else name
            if may_hold_safety_input(nearest, one):
                waiting.append((nearest, one))


def _words(name: str) -> list[str]:
    return [word.casefold() for word in _JOINTS.split(name) if word]


def _weak_state(name: str) -> bool:
    """The state in which a switch of this name lets more through."""
    words = _words(name)
    compact = "".join(words)
    is_negated = bool(_NEGATION.search(compact)) or not {"no", "off"}.isdisjoint(words)
    if _CHECK.search(compact):
        return is_negated
    return not (is_negated or _KEEPING_OUT.search(compact))


def _state(value: Any, default: Any) -> bool | None:
    """A value as the state of a switch; None: it is none."""
    if isinstance(value, bool):
        return value
    if default is not None and not isinstance(default, bool):
        return None
    if isinstance(value, int | float):
        return bool(value) if value in (0, 1) and isinstance(default, bool) else None
    return _STATES.get(str(value).strip().casefold())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_weaker_word(value: str, default: Any, *, is_listed: bool) -> bool:
    word, usual = _level(value), _level(default) if isinstance(default, str) else ""
    scales = [scale for scale in _SCALES if word in scale]
    if both := [scale for scale in scales if usual in scale]:
        return all(scale.index(word) > scale.index(usual) for scale in both)
    if usual or is_listed:
        return is_listed or bool(scales)
    return bool(scales) and all(scale.index(word) for scale in scales)


def _level(value: str) -> str:
    return "_".join(_words(value.replace("'", "")))
