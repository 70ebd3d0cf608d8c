"""Timeouts for blocking work that may hang.

Ctrl-C can strike while gRPC's blocking stubs hold one of their locks; the lock then stays held,
and whatever comes next on that channel may wait for ever. A caller that leaves must not.
"""

import threading
from collections.abc import Callable


def run_with_timeout(seconds: float, work: Callable[[], None]) -> bool:
    """Run `work` in a thread; return whether it was done within that many seconds.

    What takes longer goes on unwatched, and ends with the process at the latest.
    """
    done = threading.Event()

    def run() -> None:
        work()
        done.set()

    threading.Thread(target=run, daemon=True).start()
    return done.wait(seconds)
