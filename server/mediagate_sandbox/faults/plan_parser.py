"""Fault plan parser, for JSON and TOML; errors name the field.

seed = 7                     # optional; drawn, and told, where it is not given

[[faults]]
do = "error"                 # one of the actions
on = "create"                # an endpoint or a list of them; needed where there is a choice
model = "meta/*"             # only for these models; `*` and `?` as in file names
status = 503                 # what the action takes
after = 10                   # not the first ten requests that match
every = 3                    # of the rest every third
times = 2                    # at most twice
probability = 0.5            # and then only so often, drawn from the seed
name = "overload"            # for reports
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import orjson

from mediagate_sandbox.faults import value_checks
from mediagate_sandbox.faults.actions import (
    ACTIONS,
    ENDPOINTS,
    Action,
    ChangeSchema,
    Endpoint,
    Garbage,
)

MOST_FAULTS = 1000
_MOST_COUNT = 2**31
_MODELLESS = {"list", "files", "secret"}
_COUNTS: Mapping[str, value_checks.Check] = {
    "nth": value_checks.integer(1, _MOST_COUNT),
    "every": value_checks.integer(1, _MOST_COUNT),
    "times": value_checks.integer(1, _MOST_COUNT),
    "after": value_checks.integer(0, _MOST_COUNT),
    "probability": value_checks.number(0, 1),
}


class FaultPlanError(ValueError):
    """Invalid fault plan. `field` is its place: `faults[2].times`."""

    def __init__(self, field: str, reason: str) -> None:
        """Create the error of a field."""
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a plan: action, endpoints, and which of the matching requests."""

    name: str
    action: Action
    on: tuple[Endpoint, ...]
    model: str | None = None
    nth: int | None = None
    every: int | None = None
    times: int | None = None
    after: int = 0
    probability: float = 1.0

    def applies_to(self, model: str | None) -> bool:
        """Whether the fault is for this model; None: a request without a model."""
        return self.model is None or (model is not None and fnmatchcase(model, self.model))


@dataclasses.dataclass(frozen=True, slots=True)
class FaultPlan:
    """Fault plan: faults and seed; None: the engine chooses the seed."""

    faults: tuple[Fault, ...] = ()
    seed: int | None = None


def load_plan_file(path: Path) -> FaultPlan:
    """Load the plan of a `.json` or `.toml` file. Raises FaultPlanError, and OSError."""
    raw = path.read_bytes()
    try:
        if path.suffix == ".json":
            return parse_plan(orjson.loads(raw))
        return parse_plan(tomllib.loads(raw.decode()))
    except (orjson.JSONDecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FaultPlanError(path.name, f"cannot be read: {error}") from None


def parse_plan(given: Any) -> FaultPlan:
    """Parse decoded JSON or TOML. Raises FaultPlanError."""
    if not isinstance(given, dict):
        raise FaultPlanError("(root)", "a plan is an object with `faults` and, if wanted, `seed`")
    for name in given.keys() - {"faults", "seed"}:
        raise FaultPlanError(name, "a plan has `faults` and `seed`, nothing else")
    faults = given.get("faults")
    if not isinstance(faults, list) or len(faults) > MOST_FAULTS:
        raise FaultPlanError("faults", f"must be a list of at most {MOST_FAULTS} faults")
    seed = given.get("seed")
    if seed is not None:
        seed = _checked("seed", value_checks.integer(0, 2**63), seed)
    return FaultPlan(tuple(_fault(at, each) for at, each in enumerate(faults)), seed)


def _fault(at: int, given: Any) -> Fault:
    where = f"faults[{at}]"
    if not isinstance(given, dict):
        raise FaultPlanError(where, "must be an object")
    do = given.get("do")
    kind = ACTIONS.get(do) if isinstance(do, str) else None
    if kind is None:
        raise FaultPlanError(f"{where}.do", f"must be one of {', '.join(ACTIONS)}")
    parameters = {each.name: each for each in dataclasses.fields(kind)}
    allowed = {"do", "on", "model", "name", *_COUNTS, *parameters}
    for name in sorted(given.keys() - allowed):
        raise FaultPlanError(f"{where}.{name}", f"{kind.do} takes {', '.join(sorted(allowed))}")
    values: dict[str, Any] = {}
    for name, each in parameters.items():
        if name in given:
            values[name] = _checked(f"{where}.{name}", each.metadata["check"], given[name])
        elif each.default is dataclasses.MISSING:
            raise FaultPlanError(f"{where}.{name}", f"{kind.do} needs it")
    on = _endpoints(where, kind, given.get("on"))
    counts = {
        name: _checked(f"{where}.{name}", check, given[name])
        for name, check in _COUNTS.items()
        if name in given
    }
    _contradictions(where, kind, on, values | counts)
    return Fault(
        name=_checked(f"{where}.name", value_checks.text, given.get("name", f"{kind.do} {at + 1}")),
        action=kind(**values),
        on=on,
        model=_model(where, on, given.get("model")),
        **counts,
    )


def _contradictions(
    where: str, kind: type[Action], on: tuple[Endpoint, ...], given: Mapping[str, Any]
) -> None:
    """Raise FaultPlanError for values that contradict each other."""
    if "stream" in on and given.get("at") == "answer":
        raise FaultPlanError(f"{where}.at", "a stream has no answer to come later; cut it instead")
    nth, every = given.get("nth"), given.get("every")
    if nth is not None and every is not None and nth % every:
        raise FaultPlanError(f"{where}.every", f"request {nth} is none of every {every}: no fault")
    if kind is Garbage and "stream" not in on and "after_bytes" in given:
        raise FaultPlanError(f"{where}.after_bytes", "only a stream goes on before its garbage")
    if kind is ChangeSchema and not (given.get("remove") or given.get("require")):
        raise FaultPlanError(f"{where}.remove", "change_schema needs remove or require")


def _endpoints(where: str, kind: type[Action], given: Any) -> tuple[Endpoint, ...]:
    """Return a fault's endpoints. They default to those of an action with one."""
    allowed = kind.on
    if given is None:
        if len(allowed) > len(("create", "model")):
            raise FaultPlanError(f"{where}.on", f"must be some of {', '.join(allowed)}")
        return allowed
    names = given if isinstance(given, list) else [given]
    if not names:
        raise FaultPlanError(f"{where}.on", "must not be empty")
    for name in names:
        if name not in ENDPOINTS:
            raise FaultPlanError(f"{where}.on", f"must be some of {', '.join(allowed)}")
        if name not in allowed:
            raise FaultPlanError(f"{where}.on", f"{kind.do} works on {', '.join(allowed)} only")
    return tuple(dict.fromkeys(names))


def _model(where: str, on: tuple[Endpoint, ...], given: Any) -> str | None:
    if given is None:
        return None
    pattern: str = _checked(f"{where}.model", value_checks.text, given)
    if set(on) <= _MODELLESS:
        raise FaultPlanError(f"{where}.model", f"{', '.join(on)} is about no model")
    return pattern


def _checked(where: str, check: value_checks.Check, value: Any) -> Any:
    try:
        return check(value)
    except ValueError as error:
        raise FaultPlanError(where, str(error)) from None
