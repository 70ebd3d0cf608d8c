"""Prediction store in memory, in order of creation, by id, stream and file.

The oldest ended ones are removed over the limit; nothing is persisted.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from mediagate_sandbox.clock import Clock
from mediagate_sandbox.predictions import Prediction


class Store:
    """All predictions of one sandbox."""

    def __init__(
        self, max_predictions: int, max_bytes: int, clock: Clock, retention: float
    ) -> None:
        """Keep at most `keep` predictions with `keep_bytes` of input, and all that still run.

        `retention` is how many seconds after its end a prediction loses its data.
        """
        self._clock = clock
        self._retention = timedelta(seconds=retention)
        self._ended: dict[int, Prediction] = {}
        self._max_predictions = max_predictions
        self._max_bytes = max_bytes
        self._bytes = 0
        self._numbered: dict[int, Prediction] = {}
        self._by_id: dict[str, Prediction] = {}
        self._by_stream: dict[str, Prediction] = {}
        self._by_file: dict[str, Prediction] = {}
        self._last = 0

    def next_number(self) -> int:
        """Return the number of the next prediction; never reused."""
        self._last += 1
        return self._last

    def add(self, prediction: Prediction) -> None:
        """Add a prediction."""
        self._bytes += prediction.request.size
        self._numbered[prediction.number] = prediction
        self._by_id[prediction.id] = prediction
        self._by_stream[prediction.stream_key] = prediction
        self._by_file[prediction.file_key] = prediction
        prediction.wait_for_end(self._end)
        self._forget()

    def by_id(self, prediction_id: str) -> Prediction | None:
        """Find by id."""
        self._remove_data()
        return self._by_id.get(prediction_id)

    def by_stream(self, key: str) -> Prediction | None:
        """Find by the key of its stream."""
        self._remove_data()
        return self._by_stream.get(key)

    def by_file(self, key: str) -> Prediction | None:
        """Find by the key of its files."""
        self._remove_data()
        return self._by_file.get(key)

    def newest_first(self) -> Iterator[Prediction]:
        """Return all predictions, the last created first."""
        self._remove_data()
        return reversed(self._numbered.values())

    def forget(self, prediction: Prediction) -> None:
        """Remove a prediction."""
        self._drop(prediction)

    def _end(self, prediction: Prediction) -> None:
        if prediction.number in self._numbered:
            self._ended[prediction.number] = prediction

    def _remove_data(self) -> None:
        """Remove the data of predictions that ended before the retention time."""
        limit = self._clock.now() - self._retention
        for number, prediction in list(self._ended.items()):
            if prediction.completed_at is None or prediction.completed_at > limit:
                return
            prediction.remove_data()
            del self._ended[number]

    def _forget(self) -> None:
        while len(self._numbered) > self._max_predictions or self._bytes > self._max_bytes:
            oldest = next((each for each in self._numbered.values() if each.ended), None)
            if oldest is None:
                return
            self._drop(oldest)

    def _drop(self, prediction: Prediction) -> None:
        self._bytes -= prediction.request.size
        del self._numbered[prediction.number]
        self._ended.pop(prediction.number, None)
        del self._by_id[prediction.id]
        del self._by_stream[prediction.stream_key]
        del self._by_file[prediction.file_key]
