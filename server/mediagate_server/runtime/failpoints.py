"""Failpoints: named places where a test can kill or stop the process.

Armed by the environment, once, at the start: MEDIAGATE_FAILPOINT=name[:nth][:exit|stop]. The nth
time (from 1; the first where none is given) that the process hits it, it is killed as if by
`kill -9` (exit, the default) or stopped until it is continued (stop). Not armed, a failpoint costs
a comparison. Never set it in production.

A commit has two failpoints: `before_<step>` when nothing of it is written, `after_<step>` when all
of it is durable and nobody knows yet. The steps:

    accept        binds the request_id, inserts generation, first attempt and reservation
    submitting    a queued attempt may be sent now
    accepted      upstream's answer: the prediction's id
    unconfirmed   no answer: the attempt is unconfirmed
    adopt         the prediction of an unconfirmed attempt was found
    reopen        closes an attempt without output, opens the next; or one of both
    unsent        the end of a generation whose last attempt was not taken
    settle        the record as upstream ended it, its cost in the ledger
    keep          the output is stored: the end of a generation with media
    cancel        the request to cancel it
    overrun       the cost of an attempt that turned up after it was declared absent
    checkpoint    a checkpoint of a streamed text

Between the commits of one create:

    before_send   the permission to send is durable, no byte was sent
    after_send    all bytes are with the operating system, no answer was read
    after_answer  the answer was read, nothing of it is written

While upstream's data are handled, and a crash is blamed on their generation (crash_marks.py); not
once its output is skipped:

    while_decoding   an answer about a prediction is decoded
    while_settling   its output is checked and converted
"""

import os
import signal
from collections.abc import Mapping
from typing import Final

ENVIRONMENT_VARIABLE: Final = "MEDIAGATE_FAILPOINT"

STEPS: Final = (
    "accept",
    "submitting",
    "accepted",
    "unconfirmed",
    "adopt",
    "reopen",
    "unsent",
    "settle",
    "keep",
    "cancel",
    "overrun",
    "checkpoint",
)
FAILPOINT_NAMES: Final = frozenset(
    {f"{side}_{step}" for side in ("before", "after") for step in STEPS}
    | {"before_send", "after_send", "after_answer", "while_decoding", "while_settling"}
)

_SIGNALS: Final = {"exit": signal.SIGKILL, "stop": signal.SIGSTOP}


class Failpoint:
    """An armed failpoint."""

    def __init__(self, name: str, nth: int, action: str) -> None:
        self.name = name
        self._left = nth
        self._signal = _SIGNALS[action]

    @classmethod
    def parse(cls, text: str) -> "Failpoint":
        """Parse `name[:nth][:exit|stop]`. Raises ValueError, which names what is wrong."""
        name, *rest = text.split(":")
        if name not in FAILPOINT_NAMES:
            raise ValueError(f"{ENVIRONMENT_VARIABLE} names no failpoint: {name!r}")
        nth, action = 1, "exit"
        for word in rest:
            if word in _SIGNALS:
                action = word
            elif word.isdecimal() and int(word) > 0:
                nth = int(word)
            else:
                raise ValueError(
                    f"{ENVIRONMENT_VARIABLE}: neither a count nor exit or stop: {word!r}"
                )
        return cls(name, nth, action)

    def trigger(self) -> None:
        """Count a hit; the nth one kills or stops the process."""
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._signal)


def parse_environment(environment: Mapping[str, str]) -> Failpoint | None:
    """The failpoint that the environment arms, if any."""
    text = environment.get(ENVIRONMENT_VARIABLE, "")
    return Failpoint.parse(text) if text else None


ARMED_FAILPOINT: Final = parse_environment(os.environ)


def hit(name: str) -> None:
    """Trigger the failpoint of this name, if it is armed."""
    if ARMED_FAILPOINT is not None and ARMED_FAILPOINT.name == name:
        ARMED_FAILPOINT.trigger()


def is_armed(name: str) -> bool:
    """Whether a failpoint is armed; for places that are costly to find out."""
    return ARMED_FAILPOINT is not None and ARMED_FAILPOINT.name == name
