"""Progress of a run, parsed from the log that its model writes: progress bars and step counters.

Upstream reports no progress, only the log so far. Read are the usual bars (tqdm, rich, ASCII bars),
percentages that say what they are, and counters such as "step 9/20". Any other percentage or
fraction is none: logs repeat prompts, and say how full the memory is. Progress and log are kept in
memory alone, for those who watch the generation.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from mediagate_server.generations.transitions.attempts import StepKey
from mediagate_server.upstream.port import Prediction

MAX_LOG_CHARACTERS: Final = 32 * 1024
"""Characters of the end of a log that are buffered while it grows."""
_MOST_READ: Final = 16 * 1024
_MOST_LINES: Final = 200
"""Characters and lines that are looked through at a time: the last ones."""
_TAIL: Final = 4 * 1024
"""What is looked through of a log that did not grow from the one before: of a long one there are
both ends only."""
_LONGEST_LINE: Final = 512
_MOST_BARS: Final = 32
_LOOKS_UNTIL_DONE: Final = 3
"""A bar that is full may be followed by another one: it counts once nothing has followed."""
_LOOKS_UNTIL_STALE: Final = 20
"""A bar that stands still so long while others move was left behind."""
_ESCAPES: Final = re.compile(
    r"\x1b(?:\[[0-?]{0,32}[ -/]{0,8}(?P<control>[@-~])"
    r"|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)?|[@-Z\\^_])"
)
_ENDS: Final = re.compile(r"[\r\n\b\v\f\x85\u2028\u2029]")
_GAP: Final = r"\s{0,3}"
_PERCENT: Final = r"(?<![0-9.,])(?P<percent>[0-9]{1,3}(?:[.,][0-9]{1,6})?)\s?%"
_COUNT: Final = rf"(?P<done>[0-9]{{1,9}}){_GAP}(?:/|of|out of){_GAP}(?P<total>[0-9]{{1,9}})"
_COUNT_ALONE: Final = rf"(?<![0-9./:,\-]){_COUNT}"
_NO_MORE: Final = r"(?![0-9])(?!\s?[:/.,][0-9])"
_BLOCKS: Final = "█▉▊▋▌▍▎▏░▒▓━╸╺■□▰▱⣿#="
_BAR: Final = rf"(?<![{_BLOCKS}])[{_BLOCKS}]{{2,}}+"
"""Tried at its beginning only, and given back by nothing: else a long one costs its square."""
_BOX: Final = rf"[\[(][{_BLOCKS}>\-. *]{{3,200}}[\])]"
_STATES: Final = "complete|completed|completion|done|finished"
_ACTS: Final = (
    "rendering|generating|processing|sampling|denoising|diffusing|encoding|decoding|upscaling|"
    "inference|predicting|training|running|downloading|loading|writing|exporting|saving|"
    "converting|synthesizing|transcribing|inpainting|interpolating|stitching|muxing|rendered|"
    "generated|processed"
)
_UNITS: Final = (
    "steps?|iterations?|iters?|epochs?|frames?|chunks?|tiles?|batch|batches|images?|segments?|"
    "samples?|pass|passes|layers?|parts?|scenes?|clips?|windows?|blocks?|stages?|views?|files?"
)
_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "45%|████▌     | 9/20 [00:03<00:04, 2.5it/s]": rf"{_PERCENT}\s?\|",
        "━━━━━━ 45%": rf"{_BAR}[>\-. ]{{0,200}}[\])|]?{_GAP}{_PERCENT}",
        "[====>    ] 45%": rf"{_BOX}{_GAP}{_PERCENT}",
        "45% [#####-----]": rf"{_PERCENT}{_GAP}(?:[{_BLOCKS}]{{2,}}|{_BOX})",
        'Progress: 45%, "progress": "45%", done: 45.5 %': (
            rf"\b(?:progress|percent|{_STATES})\b[\"']?"
            rf"{_GAP}[:=\-]?{_GAP}[\"'\[(]?{_GAP}{_PERCENT}"
        ),
        "Rendering... 45%, with nothing of what is rendered": (
            rf"\b(?:{_ACTS})\b(?:[a-z \-]{{0,40}}(?::|=|\.{{2,3}}|…|[\[(]))?"
            rf"{_GAP}[\[(]?{_PERCENT}{_GAP}(?:$|[)\],;|(\[])"
        ),
        "45% complete": rf"{_PERCENT}[)\]]?{_GAP}(?:{_STATES})\b",
        "45% alone": rf"^[^0-9a-z]{{0,8}}{_PERCENT}[^0-9a-z]{{0,8}}$",
        "[ 45%] first in its line": rf"^[\[(]{_GAP}{_PERCENT}{_GAP}[\])]",
        "step 9/20, frame 12 of 48, Iteration: 3 out of 50": (
            rf"\b(?:progress|{_UNITS}|{_ACTS}|{_STATES})\b[\"']?"
            rf"{_GAP}[:=#\-(\[]{{0,2}}\s{{0,8}}{_COUNT}{_NO_MORE}"
        ),
        "9/20 steps, 12 of 48 frames": rf"{_COUNT_ALONE}\s{{0,2}}(?:{_UNITS})\b",
        "9/20 [00:03<00:04": rf"{_COUNT_ALONE}{_GAP}\[[0-9]{{1,4}}:",
        "[9/20]": rf"[\[(]{_GAP}{_COUNT}{_GAP}[\])]",
        "9/20 alone": rf"^{_COUNT}$",
        "progress: 0.45": (
            rf"\bprogress\b[\"']?{_GAP}[:=]{_GAP}[\"']?"
            r"(?P<share>0?\.[0-9]{1,9}|[01]\.0{1,9})(?![0-9%])"
        ),
    }
)
"""What is read of a line in lower case, by examples of it; the first that a line has counts.

Lines are any model's: none of these may cost more than in proportion to a line's length.
"""
_PATTERNS: Final = tuple(re.compile(kind) for kind in _KINDS.values())
"""Without IGNORECASE, which makes looking for the words several times as dear."""
_MAY_SHOW_PROGRESS: Final = re.compile(r"%|[0-9]\s{0,3}/|\bof\b|progress")
_NO_NAME: Final = re.compile(r"[^a-z]+")
_Bar = tuple[int, str, str]
"""What a bar is known by: its kind, its words, and of a counter what it counts to."""


class LogProgress:
    """Progress of one run, 0 to 1; None while its log tells none. It never falls.

    Of two bars at a time the one that began first counts: it is the outer one. A bar that follows
    on one that is full goes on from what was reached; how many more will follow nobody tells.
    """

    __slots__ = (
        "_bars",
        "_begun",
        "_current",
        "_floor",
        "_length",
        "_looks",
        "_still",
        "log",
        "value",
    )

    def __init__(self) -> None:
        self.value: float | None = None
        self.log = ""
        """The end of the log, at most MAX_LOG_CHARACTERS of it."""
        self._length = 0
        self._begun = 0
        """Where the line begins that is not at its end yet."""
        self._bars: dict[_Bar, tuple[float, int]] = {}
        """How far each is and the look that found it so, in the order of their beginnings."""
        self._current: _Bar | None = None
        self._floor = 0.0
        self._looks = 0
        self._still = 0
        """Looks since a bar moved."""

    def update(self, log: str) -> bool:
        """Read what is new in the log so far. True where it, or the progress, has changed."""
        before, has_changed = self.value, True
        if len(log) == self._length and log.endswith(self.log):
            has_changed = False
            lines = [log[self._begun :]] if self._begun < len(log) else []
            moved = self._take(lines, rest=None)
        else:
            moved = self._take_new(log)
        if moved:
            self._looks, self._still = self._looks + 1, 0
        else:
            self._still += 1
        self._compute()
        return has_changed or self.value != before

    def _take_new(self, log: str) -> bool:
        is_same = len(log) > self._length and log.endswith(self.log, 0, self._length)
        start = self._begun if is_same else len(log) - _TAIL
        new = log[max(start, len(log) - _MOST_READ, 0) :]
        *lines, rest = _ENDS.split(new)
        del lines[:-_MOST_LINES]
        self._length, self._begun = len(log), len(log) - len(rest)
        self.log = _end_of(log)
        return self._take(lines, rest)

    def _take(self, lines: list[str], rest: str | None) -> bool:
        """The bars in these lines. Of one that is not at its end a number may still grow."""
        moved = False
        for line in lines:
            for bar, share in _bars_in(line, is_whole=True):
                moved = self._set(bar, share) or moved
        for bar, share in _bars_in(rest, is_whole=False) if rest else ():
            moved = self._set(bar, share) or moved
        return moved

    def _set(self, bar: _Bar, share: float) -> bool:
        before = self._bars.get(bar)
        if before is None:
            if len(self._bars) >= _MOST_BARS:
                del self._bars[next(iter(self._bars))]
        elif share < before[0]:
            if before[0] < 1 and share >= before[0] / 2:
                return False  # It has trembled.
            del self._bars[bar]  # It begins anew, behind all others.
            if bar == self._current:
                self._current = None
        self._bars[bar] = (share, self._looks)
        return before is None or share != before[0]

    def _compute(self) -> None:
        oldest = self._looks - _LOOKS_UNTIL_STALE
        fresh = {bar: share for bar, (share, look) in self._bars.items() if look >= oldest}
        for bar, share in fresh.items():
            if share >= 1:
                continue
            reached = self.value or 0.0
            if bar != self._current:
                self._current, self._floor = bar, reached
            self.value = max(reached, self._floor + (1 - self._floor) * share)
            return
        if fresh and self._still >= _LOOKS_UNTIL_DONE:
            self.value = 1.0


def _bars_in(segment: str, *, is_whole: bool) -> Iterator[tuple[_Bar, float]]:
    for text in _ESCAPES.sub(_without_colours, segment).split("\n")[-_MOST_LINES:]:
        line = text[-_LONGEST_LINE:].strip().lower()
        if _MAY_SHOW_PROGRESS.search(line) and (bar := _bar_in(line, is_whole=is_whole)):
            yield bar


def _without_colours(escape: re.Match[str]) -> str:
    """What moves the cursor ends a line."""
    return "" if escape["control"] in {"m", None} else "\n"


def _bar_in(line: str, *, is_whole: bool) -> tuple[_Bar, float] | None:
    for kind, pattern in enumerate(_PATTERNS):
        every = deque(pattern.finditer(line), maxlen=1)  # The last one counts.
        if not every:
            continue
        match = every[0]
        groups = match.groupdict()
        if not is_whole and "percent" not in groups and match.end() == len(line):
            return None
        share = _share(groups)
        if share is None or not 0 <= share <= 1:
            continue
        words = _NO_NAME.sub(" ", line[: match.end()]).strip()[-40:]
        return (kind, words, groups.get("total") or ""), share
    return None


def _share(groups: dict[str, str]) -> float | None:
    if percent := groups.get("percent"):
        return float(percent.replace(",", ".")) / 100
    if share := groups.get("share"):
        return float(share)
    total = int(groups["total"])
    return int(groups["done"]) / total if total else None


def _end_of(log: str) -> str:
    """From the beginning of a line on, where it has one."""
    if len(log) <= MAX_LOG_CHARACTERS:
        return log
    end = log[-MAX_LOG_CHARACTERS:]
    line = end.find("\n")
    return end[line + 1 :] if 0 <= line < len(end) - 1 else end


class RunProgress:
    """Over all outputs of a generation, each of which is made by a run of its own.

    What a log says is its owner's: it may hold the prompt, and is in none of our own logs.
    """

    __slots__ = ("_runs", "outputs")

    def __init__(self) -> None:
        self.outputs = 1
        """How many there are."""
        self._runs: dict[StepKey, tuple[str, LogProgress]] | None = None
        """By output: the prediction that makes it, and its progress."""

    def __bool__(self) -> bool:
        return self._runs is not None

    def update(self, key: StepKey, prediction: Prediction) -> bool:
        """Update a run from upstream's answer. True where its progress or its log has changed."""
        if self._runs is None:
            self._runs = {}
        run = self._runs.get(key)
        if run is None or run[0] != prediction.id:
            run = self._runs[key] = (prediction.id, LogProgress())
        return run[1].update(prediction.logs)

    def progress_of(self, key: StepKey) -> float | None:
        """Of the run that makes one output, 0 to 1; None where its log tells none."""
        run = self._runs.get(key) if self._runs else None
        return run[1].value if run else None

    def end(self, key: StepKey) -> None:
        """A run is over: of several the others may still go on."""
        if self._runs and (run := self._runs.get(key)):
            run[1].value = 1.0

    @property
    def progress(self) -> float | None:
        """Of all outputs together, 0 to 1; None where no run's log tells any."""
        values = [run.value for _, run in (self._runs or {}).values() if run.value is not None]
        return sum(values) / self.outputs if values else None

    @property
    def log(self) -> str:
        """The end of what the runs have logged so far."""
        return "\n".join(run.log for _, run in (self._runs or {}).values() if run.log)
