"""Safety inputs: a model's own inputs that switch off or weaken its content checks.

There is no list of them: they are recognised by the words in their names (`disable_safety_checker`,
`safety_tolerance`, `moderation`, `nsfw_filter`). Whether a check may be weaker than the default of
the model, or of the operator's catalog, is the operator's decision in every rpc. Anybody may set a
value that is as strict as that default, or stricter.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

REFUSED_REASON: Final = "is not a caller's to set so: it weakens the model's safety checks"

_SEPARATORS: Final = re.compile(r"[\W_]+")
_WORD_BOUNDARIES: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[\W_]+")
_CHECK_NAME: Final = re.compile(
    r"safety(?!identifier|id$|user)|(?<!un)safe(?:mode|prompt|search|check|guard|content|only|$)"
    r"|moderat(?:e|ion|or)|censor|guardrail|blocklist|blacklist|persongeneration|raifilter"
    r"|(?:content|prompt|profanity|toxic\w*|nsfw|nudity|explicit|adult|sensitive|word|unsafe)"
    r"(?:filter|check|screen|polic|classif|detect|guard)|unfiltered"
    r"|(?:filter|check|screen|detect)(?:content|prompt|profanity|nsfw|nudity|explicit|adult|unsafe)"
)
"""Patterns in the names of checks, without separators."""
_HAZARD_NAME: Final = re.compile(
    r"nsfw|unsafe|nudity|explicit(?:content|lyrics)?$|adult(?:content)?$|sensitivecontent|harmful"
)
"""Patterns in the names of content that is let through, or blocked."""
_NEGATION: Final = re.compile(
    r"disable|skip|bypass|without|ignore|override|omit|deactivat|turnoff|remove|relax|suppress"
    r"|un(?:censor|filter|moderat)|optout|exempt|weaken|loosen|permissive|allow(?:all|any|every)"
)
_ONLY_NEGATION: Final = re.compile(rf"(?:{_NEGATION.pattern}|no|off)(?:d|ed|s|ped|ing|ping)?")
_BLOCKING: Final = re.compile(r"block|hide|exclude|reject|disallow|prevent|forbid|filter")
_SWITCH_WORDS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "t", "on", "yes", "y", "enable", "enabled"), True),
    **dict.fromkeys(("false", "f", "off", "no", "n", "disable", "disabled"), False),
}
_SCALES: Final = (
    ("block_low_and_above", "block_medium_and_above", "block_only_high", "block_few",
     "block_fewest", "block_none", "none", "off"),
    ("block_most", "block_some", "block_few", "block_fewest", "block_none", "none", "off"),
    ("strict", "auto", "low", "none", "off"),
    ("strict", "standard", "relaxed", "permissive", "none", "off"),
    ("dont_allow", "allow_adult", "allow_all"),
)  # fmt: skip
"""Scales of levels, from the strictest to the weakest."""
_CONTAINERS: Final = (Mapping, list, tuple)
_MAX_PATH_CHARACTERS: Final = 512
_MAX_TEXT_CHARACTERS: Final = 512
"""Maximum characters of a setting: no number, switch or level is longer."""
_MAX_CACHED_NAMES: Final = 1_024
"""Cached names: a list of objects repeats those of its first. They are shortened before: callers
may write names as long as a request."""
_MAX_WORDS: Final = 3
"""Maximum words of a setting. Longer texts are prose."""
_DESCRIPTION_KEYS: Final = frozenset(
    (
        "category",
        "type",
        "name",
        "method",
        "id",
        "label",
        "language",
        "version",
        "model",
        "provider",
    )
)
"""Keys within a check's settings that describe what it checks, not how strictly."""


def is_safety_input(name: str) -> bool:
    """Whether an input of this name, or path of names, configures a content check."""
    return _tunes_check(_truncate(name))


@lru_cache(_MAX_CACHED_NAMES)
def _tunes_check(name: str) -> bool:
    compact = _remove_separators(name)
    return bool(_CHECK_NAME.search(compact) or _HAZARD_NAME.search(compact))


def may_contain_safety_input(name: str, value: Any) -> bool:
    """Whether an input is a safety input, or a container that may hold one."""
    return isinstance(value, _CONTAINERS) or is_safety_input(name)


def weakens_safety(
    name: str, value: Any, default: Any, *, allowed_values: Collection[Any] = ()
) -> bool:
    """Whether this value makes a content check weaker than it is by `default`.

    `default` None: not known, and only the strictest value is no weaker. Texts are read as the
    numbers and switches that models take them for; free text is no setting of a check, unless
    `allowed_values` says that it is an enum. Values within lists and objects are classified by the
    names next to them, together with the name of the check that they are in.
    """
    name = _truncate(name)
    if isinstance(value, _CONTAINERS):
        return value != default and any(
            setting.is_weaker() for setting in _nested_settings(_Setting(name, value, default))
        )
    if value is None or not is_safety_input(name):
        return False
    return _is_weaker(name, value, default, is_listed=bool(allowed_values))


class _Setting(NamedTuple):
    """A value, or a container of values, with its path of names."""

    name: str
    value: Any
    default: Any = None
    key: str = ""
    """The last of the names, where it is a key of an object."""
    is_listed: bool = False
    """Whether it is an item of a list."""
    negated_name: str = ""
    """The path with an outer negation: `disable.safety_checker`."""

    def is_weaker(self) -> bool:
        if isinstance(self.value, _CONTAINERS):
            return _lacks_defaults(self.value, self.default)
        is_description = self.key.casefold() in _DESCRIPTION_KEYS
        if self.value is None:
            return not is_description
        is_free = isinstance(self.value, str) and (is_description or self.is_listed)
        # Compared with a text as default: an unknown word is a search term or a category.
        default = "" if is_free and self.default is None else self.default
        return any(
            _is_weaker(name, self.value, default, is_listed=False)
            for name in {self.name, self.negated_name or self.name}
        )

    def nested_setting(self, key: str, value: Any, default: Any) -> "_Setting":
        """The setting of this key."""
        is_named_by_both = is_safety_input(self.name) and not is_safety_input(key)
        outer_name = self.negated_name or self.name
        return _Setting(
            _truncate(f"{self.name}_{key}" if is_named_by_both else key),
            value,
            default,
            _truncate(key),
            negated_name=_truncate(f"{outer_name}_{key}") if _is_negation(outer_name) else "",
        )


def _nested_settings(setting: _Setting) -> Iterator[_Setting]:
    """All settings of checks within a container, at any depth.

    Containers are among them. An object within a check is named by both: `safety.disabled`.
    """
    pending = [setting]
    while pending:
        outer = pending.pop()
        is_check = is_safety_input(outer.name)
        if is_check:
            yield outer
        if isinstance(outer.value, Mapping):
            defaults = outer.default if isinstance(outer.default, Mapping) else {}
            pending.extend(
                outer.nested_setting(key, item, defaults.get(key))
                for key, item in outer.value.items()
            )
        elif isinstance(outer.value, list | tuple):
            pending.extend(
                outer._replace(value=item, default=None, is_listed=True)
                for item in outer.value
                if is_check or isinstance(item, _CONTAINERS)
            )


def _truncate(name: str) -> str:
    """Shorten a path to both of its ends: the check's name and the setting's."""
    half = _MAX_PATH_CHARACTERS // 2
    return name if len(name) <= _MAX_PATH_CHARACTERS else f"{name[:half]}_{name[-half:]}"


@lru_cache(_MAX_CACHED_NAMES)
def _is_negation(name: str) -> bool:
    """Whether a name only says to switch something off, or to switch a check off."""
    compact = _remove_separators(name)
    if _ONLY_NEGATION.fullmatch(compact):
        return True
    return bool(_CHECK_NAME.search(compact)) and _weak_state(name)


def _lacks_defaults(value: Any, default: Any) -> bool:
    """Whether a container is empty, or lacks something that it has by default."""
    if not isinstance(default, _CONTAINERS):
        return not value
    if isinstance(default, Mapping):
        return any(key not in value for key in default)
    return len(value) < len(default) or not _scalar_items(default) <= _scalar_items(value)


def _scalar_items(container: Iterable[Any]) -> set[Any]:
    """Items, or keys, but for containers."""
    return {item for item in container if not isinstance(item, _CONTAINERS)}


def _remove_separators(name: str) -> str:
    """A name in lower case without separators."""
    return _SEPARATORS.sub("", name).casefold()


def _words(name: str) -> list[str]:
    return [word.casefold() for word in _WORD_BOUNDARIES.split(name) if word]


@lru_cache(_MAX_CACHED_NAMES)
def _weak_state(name: str) -> bool:
    """The state in which a switch of this name lets more through."""
    compact = _remove_separators(name)
    is_negated = bool(_NEGATION.search(compact)) or not {"no", "off"}.isdisjoint(_words(name))
    if _CHECK_NAME.search(compact):
        return is_negated
    return not (is_negated or _BLOCKING.search(compact))


def _is_weaker(name: str, value: Any, default: Any, *, is_listed: bool) -> bool:
    """Whether one plain value of a check's setting is weaker than its default."""
    if (by_scale := _is_weaker_on_scale(value, default)) is not None:
        return by_scale
    parsed, default_value = _parse_setting(value), _parse_setting(default)
    if parsed == default_value and isinstance(parsed, bool) is isinstance(default_value, bool):
        return False
    parsed = _coerce_switch(default_value, parsed)
    if isinstance(parsed, bool):
        is_figure = "tolerance" in name.casefold() or "threshold" in name.casefold()
        return parsed is _weak_state(name) or (default_value is None and is_figure)
    if isinstance(parsed, int | float):
        # A low tolerance is strict. The direction of other numbers is unknown.
        is_tolerance = "tolerance" in name.casefold() and _is_number(default_value)
        return not (is_tolerance and 0 <= parsed < default_value)
    return _is_weaker_word(str(value), default_value, is_listed=is_listed)


def _parse_setting(value: Any) -> Any:
    """Parse a text as the number or switch that a model may take it for; others as they are."""
    if not isinstance(value, str) or len(value.strip()) > _MAX_TEXT_CHARACTERS:
        return value
    text = unicodedata.normalize("NFKC", value).strip().casefold()
    if text in _SWITCH_WORDS:
        return _SWITCH_WORDS[text]
    try:
        return float(text)
    except ValueError:
        return value


def _coerce_switch(default: Any, value: Any) -> Any:
    """0 and 1 as a switch where the default is one, and a switch as a number where that is."""
    if isinstance(default, bool) and _is_number(value) and value in (0, 1):
        return bool(value)
    if isinstance(value, bool) and _is_number(default) and default not in (0, 1):
        return int(value)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_weaker_on_scale(value: Any, default: Any) -> bool | None:
    """Whether a word is weaker on the scales that hold both it and the default; None: no scale."""
    if not (isinstance(value, str) and isinstance(default, str)):
        return None
    word, default_word = _scale_word(value), _scale_word(default)
    shared_scales = [scale for scale in _SCALES if word in scale and default_word in scale]
    if not shared_scales:
        return None
    return all(scale.index(word) > scale.index(default_word) for scale in shared_scales)


def _is_weaker_word(value: str, default: Any, *, is_listed: bool) -> bool:
    """Whether a word that is neither a number nor a switch is weaker."""
    word = _scale_word(value)
    scales = [scale for scale in _SCALES if word in scale]
    if isinstance(default, str):
        if default.strip():
            return is_listed or bool(scales) or not value.strip()
        return is_listed or (bool(scales) and all(scale.index(word) for scale in scales))
    if scales:
        return all(scale.index(word) for scale in scales)
    return is_listed or default is not None or word.count("_") < _MAX_WORDS


def _scale_word(value: str) -> str:
    """Normalise a word for the scales; of a long text the beginning, which is on none of them."""
    level = "_".join(_words(value[:_MAX_TEXT_CHARACTERS].replace("'", "")))
    return level if len(value) <= _MAX_TEXT_CHARACTERS else f"{level}_"
