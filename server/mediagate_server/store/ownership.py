"""Port of the store's ownership: one process at a time owns it, by a lease."""

from typing import Protocol

from mediagate_server.runtime.notifier import Notifier


class Ownership(Protocol):
    """The lease by which this process owns the store."""

    @property
    def lost(self) -> Notifier:
        """Notified once another process has taken the store over: this one has to end itself."""
        ...

    def lease_left(self) -> float:
        """Seconds for which no other process can take the store over; 0 or less: one may have.

        To be checked right before a request that costs money is sent: a process that was paused
        since its commit may have been declared dead, and its attempt absent.
        """
        ...
