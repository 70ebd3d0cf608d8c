"""Matching of predictions in upstream's list with attempts whose answers were lost. Pure.

A prediction is an attempt's where model and input are the same and it was made at about the time
of the send. Attempts with the same input are interchangeable: any of their predictions may be any
of them. It holds for one account that nobody else uses: a prediction that no attempt has and that
fits an attempt in doubt is that attempt's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
from msgspec import Struct

from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.generations.dependencies import EngineTimeouts
from mediagate_server.generations.submission_request import input_hash
from mediagate_server.store.records import Attempt
from mediagate_server.structs import replace
from mediagate_server.upstream.port import Prediction


class UnconfirmedAttempt(Struct, frozen=True):
    """An attempt that was sent: what to look for in upstream's list. `plan` None: not kept.

    `key` is what its input's hash is keyed with. `sent` is when it, and any that it may have been
    exchanged with, were sent: first and last; None: the attempt says so itself.
    """

    attempt: Attempt
    plan: Plan | None
    key: bytes
    sent_window: tuple[datetime, datetime] | None = None

    @property
    def sent_between(self) -> tuple[datetime, datetime]:
        """When it was sent: the first and the last moment."""
        at = self.attempt.sent_at or self.attempt.created_at
        return self.sent_window or (at, at)


MAX_CLOCK_SKEW: Final = timedelta(seconds=5)
"""How far upstream's clock may be behind ours."""
_INTERNAL_OWNERS: Final = frozenset({"replicate", "replicate-internal"})
"""Under these owners official models have been shown by internal names."""
_DEPLOYMENT: Final = "deployments/"
_DATA: Final = "data:"


@dataclass(frozen=True, slots=True)
class CreationWindow:
    """When the prediction of an attempt can have been made."""

    begins: datetime
    ends: datetime

    @classmethod
    def of(cls, unconfirmed: UnconfirmedAttempt, timing: EngineTimeouts) -> "CreationWindow":
        """From a little before the send until after its answer could have come."""
        first, last = unconfirmed.sent_between
        longest = timedelta(seconds=timing.post_timeout + timing.absent_margin)
        return cls(first - MAX_CLOCK_SKEW, last + longest)

    def contains(self, moment: datetime | None) -> bool:
        """True also where upstream does not say when."""
        return moment is None or self.begins <= moment <= self.ends


def matches(
    unconfirmed: UnconfirmedAttempt, prediction: Prediction, timing: EngineTimeouts
) -> bool:
    """Whether a prediction can be an attempt's."""
    return (
        CreationWindow.of(unconfirmed, timing).contains(prediction.created_at)
        and _same_model(unconfirmed, prediction.model)
        and _same_input(unconfirmed, prediction)
    )


def may_match(
    unconfirmed: UnconfirmedAttempt, prediction: Prediction, timing: EngineTimeouts
) -> bool:
    """Whether an attempt is not proven absent while nobody has this prediction.

    Of one whose input is not known any more no comparison says no: upstream shows inputs otherwise
    than they were sent.
    """
    if unconfirmed.plan is None:
        return CreationWindow.of(unconfirmed, timing).contains(prediction.created_at)
    return matches(unconfirmed, prediction, timing)


def match_predictions(
    candidates: Iterable[UnconfirmedAttempt],
    predictions: Sequence[Prediction],
    timing: EngineTimeouts,
) -> dict[str, Prediction]:
    """A prediction for each attempt, by its id, as far as they go; each is given out once.

    Those whose input is there are given out before those whose data upstream has removed. All
    windows are equally long, so the last that was sent may take the last that was made, and so on
    backwards: that leaves nobody out who could be served. Nor does it once the list, which lags,
    shows more: what was made early fits nobody who was sent late, but not the other way round.
    """
    waiting = sorted(
        candidates,
        key=lambda unconfirmed: unconfirmed.attempt.sent_at or unconfirmed.attempt.created_at,
        reverse=True,
    )
    given: dict[str, Prediction] = {}
    taken: set[str] = set()
    for removed in (False, True):
        for unconfirmed in waiting:
            if unconfirmed.attempt.id in given:
                continue
            for prediction in sorted(predictions, key=_youth):
                if prediction.id in taken or _is_gone(prediction) != removed:
                    continue
                if matches(unconfirmed, prediction, timing):
                    given[unconfirmed.attempt.id] = prediction
                    taken.add(prediction.id)
                    break
    return given


def _youth(prediction: Prediction) -> tuple[bool, float]:
    made = prediction.created_at
    return (made is None, -made.timestamp() if made else 0.0)


def _same_model(unconfirmed: UnconfirmedAttempt, model: str) -> bool:
    target = unconfirmed.plan.target if unconfirmed.plan else unconfirmed.attempt.model
    if not model or target.startswith(_DEPLOYMENT):
        return True  # A deployment's predictions carry the name of whatever model it runs.
    name = target.partition(":")[0]
    return model == name or model.partition("/")[0] in _INTERNAL_OWNERS


def _is_gone(prediction: Prediction) -> bool:
    return prediction.data_removed or prediction.input is None


def _same_input(unconfirmed: UnconfirmedAttempt, prediction: Prediction) -> bool:
    shown = prediction.input
    if shown is None or prediction.data_removed:
        return True  # Nothing to compare: the model and the time have to do.
    if unconfirmed.plan is None:
        try:
            return input_hash(unconfirmed.key, shown) == unconfirmed.attempt.input_hash
        except orjson.JSONEncodeError:
            return False  # An integer beyond 64 bits, say: never sent by us.
    sent = unconfirmed.plan.input
    # Upstream may fill in its own defaults, so only what was sent is compared.
    return all(name in shown and matches_value(value, shown[name]) for name, value in sent.items())


def without_media(plan: Plan) -> Plan:
    """The plan as it is compared: what is in a data URI is not, and may be large."""
    return replace(plan, input={name: _shortened(value) for name, value in plan.input.items()})


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return _DATA if value.startswith(_DATA) else value
    if isinstance(value, Mapping):
        return {name: _shortened(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(each) for each in value]
    return value


def matches_value(sent: Any, shown: Any) -> bool:
    """Whether upstream shows what was sent. Data URIs may have become links to files of its own."""
    if isinstance(sent, str):
        if sent.startswith(_DATA) and isinstance(shown, str):
            return shown.startswith(("http://", "https://", _DATA))
        return bool(sent == shown)
    if isinstance(sent, Mapping):
        return isinstance(shown, Mapping) and all(
            name in shown and matches_value(value, shown[name]) for name, value in sent.items()
        )
    if isinstance(sent, list | tuple):
        return (
            isinstance(shown, list)
            and len(sent) == len(shown)
            and all(map(matches_value, sent, shown))
        )
    if isinstance(sent, bool) or isinstance(shown, bool):
        return sent is shown
    return bool(sent == shown)
