"""Progress and log of a generation while it runs: in memory alone, for those who watch it."""

from mediagate_server.generations.attempts import LaneKey
from mediagate_server.generations.log_progress import LogProgress
from mediagate_server.replicate.port import Prediction


class RunActivity:
    """Over all outputs of a generation, each of which is made by a run of its own.

    What a log says is its owner's: it may hold the prompt, and is in none of our own logs.
    """

    __slots__ = ("_outputs", "_runs")

    def __init__(self, outputs: int) -> None:
        self._outputs = max(outputs, 1)
        self._runs: dict[LaneKey, tuple[str, LogProgress]] = {}
        """By output: the prediction that makes it, and its progress."""

    def update(self, lane: LaneKey, prediction: Prediction) -> bool:
        """Upstream has told how a run stands. True where its progress or its log has changed."""
        known = self._runs.get(lane)
        if known is None or known[0] != prediction.id:
            known = self._runs[lane] = (prediction.id, LogProgress())
        return known[1].look(prediction.logs)

    def progress_of(self, lane: LaneKey) -> float | None:
        """Of the run that makes one output, 0 to 1; None where it tells none."""
        known = self._runs.get(lane)
        return known[1].value if known else None

    def end(self, lane: LaneKey) -> None:
        """A run is over: of several the others may still go on."""
        if known := self._runs.get(lane):
            known[1].value = 1.0

    @property
    def progress(self) -> float | None:
        """Of all outputs together, 0 to 1; None where no run tells any."""
        told = [run.value for _, run in self._runs.values() if run.value is not None]
        return sum(told) / self._outputs if told else None

    @property
    def log(self) -> str:
        """The end of what the runs have logged so far."""
        return "\n".join(run.log for _, run in self._runs.values() if run.log)
