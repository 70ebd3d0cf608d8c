"""Variables that look like settings and are none: most likely somebody mistyped one."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mediagate_server.config.names import FILE_ONLY, NOT_BUILT, variable_of
from mediagate_server.config.settings import Settings

_PREFIX: Final = "MEDIAGATE_"
_OTHERS: Final = frozenset(
    {
        "MEDIAGATE_CONFIG",
        "MEDIAGATE_API_KEY",
        "MEDIAGATE_TARGET",
        "MEDIAGATE_FAILPOINT",
        "MEDIAGATE_REQUIRE_ALL",
    }
)
"""What other parts of this project read: the clients, the command line, the tests."""
_WITHOUT_PREFIX: Final = frozenset(name.upper() for name in NOT_BUILT)
"""What others read by these names, so that it is no error here; nor is it silent."""
_OF_TESTS: Final = "MEDIAGATE_TEST_"
_ALIKE: Final = 0.75


def strays(environ: Mapping[str, str], document: Mapping[str, Any] | None = None) -> list[str]:
    """A line for each variable that nobody reads, with the name that it may stand for.

    `document` is the configuration file: what it refers to as `env:NAME` is read. Values are
    never shown.
    """
    settings = {variable_of(setting) for setting in Settings.model_fields.keys() - FILE_ONLY}
    known = settings | _OTHERS
    read = known | set(_referred(document or {}))
    return [
        _line(name, known)
        for name in sorted(environ)
        if (name.upper().startswith(_PREFIX) or name in _WITHOUT_PREFIX)
        and name not in read
        and not name.startswith(_OF_TESTS)
    ]


def _line(name: str, known: set[str]) -> str:
    if name in _WITHOUT_PREFIX:
        return f"the variable {name} has no effect: what it asks for is not built yet"
    near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=_ALIKE)
    meant = f"; is {near[0]} meant?" if near else ""
    return f"the variable {name} is not a setting and has no effect{meant}"


def _referred(value: Any) -> Iterator[str]:
    """Names of all variables that the file points to."""
    if isinstance(value, str) and value.startswith("env:"):
        yield value.removeprefix("env:")
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _referred(each)
    elif isinstance(value, list):
        for each in value:
            yield from _referred(each)
