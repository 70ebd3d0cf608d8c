"""Places where a process can be made to die or to stand still, to show that nothing is lost there.

Armed by the environment, once, at the start: MEDIAGATE_FAILPOINT=name[:nth][:exit|stop]. The nth
time (from 1; the first where none is given) that the process comes by, it is killed as if by
`kill -9` (exit, the default) or stopped until somebody continues it (stop). Not armed, a place
costs a comparison. Never set it where anything is real.

A commit has two places: `before_<step>` when nothing of it is written, `after_<step>` when all of
it is durable and nobody has been told. The steps:

    accept        binds the request_id, makes generation, first attempt and reservation
    submitting    a queued attempt may be sent now
    accepted      upstream's answer: the prediction's id
    unconfirmed   no answer: the attempt is in doubt
    adopt         the prediction of an attempt in doubt was found
    reopen        closes an attempt that makes nothing, opens the next; or one of both
    unsent        the end of a generation whose last attempt was not taken
    settle        the record as upstream ended it, its cost in the ledger
    keep          what was made is kept: the end of a generation with media
    cancel        the wish that it ends
    overrun       the cost of an attempt that turned up after it was declared absent
    checkpoint    a piece of a text that is being streamed

Between the commits of one create:

    before_send   the right to send is durable, no byte was sent
    after_send    every byte is with the system, no answer was read
    after_answer  the answer was read, nothing of it is written

While what upstream has said is handled, and a crash is blamed on its generation (crash_marks.py);
not once its output is passed over:

    while_decoding   an answer about a prediction is decoded
    while_settling   what it made is checked and shaped
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
    """One armed place."""

    def __init__(self, name: str, nth: int, action: str) -> None:
        self.name = name
        self._left = nth
        self._signal = _SIGNALS[action]

    @classmethod
    def parse(cls, words: str) -> "Failpoint":
        """From `name[:nth][:exit|stop]`. Raises ValueError, which names what is wrong."""
        name, *rest = words.split(":")
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
        """The process has come here."""
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._signal)


def parse_environment(environment: Mapping[str, str]) -> Failpoint | None:
    """What the environment arms, if anything."""
    words = environment.get(ENVIRONMENT_VARIABLE, "")
    return Failpoint.parse(words) if words else None


ARMED_FAILPOINT: Final = parse_environment(os.environ)


def hit(name: str) -> None:
    """The process comes by this place."""
    if ARMED_FAILPOINT is not None and ARMED_FAILPOINT.name == name:
        ARMED_FAILPOINT.trigger()


def is_armed(name: str) -> bool:
    """Whether it is worth the trouble to find out when the process comes by."""
    return ARMED_FAILPOINT is not None and ARMED_FAILPOINT.name == name
