"""Which prediction is whose: each is one attempt's, whatever upstream answers.

An answer that names another attempt's prediction is no proof of what became of the create: it is
as good as lost. Taken at its word, it would show one caller what another has paid for.

Whose the predictions are is in the store, which one process writes; what is on its way there is
kept here. A create's answer should wait for no look into the store, so a filter remembers what is
in there: it knows for sure of nearly all new ids that they are new.
"""

from collections.abc import Iterable
from typing import Final

import structlog

from mediagate_server import telemetry
from mediagate_server.store.port import Store
from mediagate_server.store.records import Attempt

_log = structlog.get_logger()

_MOST: Final = 200_000
"""Ids that are read at the start. Where the store has more, it is asked about every id."""
_BITS: Final = 1 << 22
_PROBES: Final = range(4)
"""With 200,000 ids one new id in a thousand is asked about, with a million one in seven."""


class _Filter:
    """A Bloom filter: what it has not seen for sure, and what it may have, in half a megabyte."""

    def __init__(self) -> None:
        self._bits = bytearray(_BITS // 8)

    def add(self, name: str) -> None:
        """Have seen it."""
        for place in _places(name):
            self._bits[place >> 3] |= 1 << (place & 7)

    def may_have(self, name: str) -> bool:
        """False: it was never added."""
        return all(self._bits[place >> 3] >> (place & 7) & 1 for place in _places(name))


def _places(name: str) -> list[int]:
    number = hash(name)  # Keyed anew in every process: no server can choose what collides.
    first, step = number & 0xFFFFFFFF, number >> 32 | 1
    return [first + probe * step & _BITS - 1 for probe in _PROBES]


class Claims:
    """Whose predictions are, for this process. Claimed before anything is made of an answer."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[str, str] = {}
        self._seen = _Filter()
        self._knows_all = False

    async def remember(self) -> None:
        """Learn what earlier processes have written. Until then the store is always asked."""
        known = await self._store.prediction_ids(_MOST + 1)
        for prediction_id in known:
            self._seen.add(prediction_id)
        self._knows_all = len(known) <= _MOST

    async def claim(self, attempt_id: str, prediction_id: str) -> bool:
        """Whether the prediction is this attempt's from now on; False: it is another's.

        To be asked for an attempt of which no prediction is written down yet; asked again, it says
        the same. Raises StoreUnavailable, with nothing claimed.
        """
        holder = self._held.get(prediction_id)
        if holder is not None:
            return holder == attempt_id
        self._held[prediction_id] = attempt_id  # Before anybody else can ask.
        is_free = False
        try:
            may_be_known = not self._knows_all or self._seen.may_have(prediction_id)
            is_free = not may_be_known or not await self._store.claimed((prediction_id,))
        finally:
            if not is_free:
                del self._held[prediction_id]
        self._seen.add(prediction_id)
        return is_free

    def give_up(self, attempt_id: str, prediction_id: str) -> None:
        """The store knows it as another attempt's: nothing is held of it here."""
        if self._held.get(prediction_id) == attempt_id:
            del self._held[prediction_id]

    def saw(self, prediction_id: str) -> None:
        """A prediction is about to be written down as some attempt's, by a commit that looks."""
        self._seen.add(prediction_id)

    def release(self, attempts: Iterable[Attempt]) -> None:
        """What these hold is written down: the store knows it."""
        for attempt in attempts:
            if self._held.get(attempt.prediction_id) == attempt.id:
                del self._held[attempt.prediction_id]


def tell_of_mistake(generation_id: str, attempt_id: str, prediction_id: str) -> None:
    """Upstream has answered a create with another's prediction: for the log and the metrics."""
    telemetry.attempts_misanswered.inc()
    _log.warning(
        "a create was answered with another's prediction",
        id=generation_id,
        attempt=attempt_id,
        prediction=prediction_id,
    )
