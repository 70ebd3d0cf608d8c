"""Timeouts for blocking work that may hang.

Ctrl-C can interrupt gRPC's blocking stubs while they hold a lock; the lock then stays held, and
the next call on that channel may hang. A caller that closes the client must not.
"""

import threading
from collections.abc import Callable


def run_with_timeout(seconds: float, work: Callable[[], None]) -> bool:
    """Run `work` in a thread; return whether it ended within `seconds`.

    Otherwise it continues in its daemon thread.
    """
    done = threading.Event()

    def run() -> None:
        work()
        done.set()

    threading.Thread(target=run, daemon=True).start()
    return done.wait(seconds)
