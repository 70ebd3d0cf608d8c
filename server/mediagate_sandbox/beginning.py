"""Puts a running sandbox back to where it began, for tests that share one."""

from __future__ import annotations

from dataclasses import dataclass

from mediagate_sandbox.cuts import StreamCuts
from mediagate_sandbox.deliveries import Deliveries
from mediagate_sandbox.faults.engine import FaultEngine
from mediagate_sandbox.observations import Observations
from mediagate_sandbox.orders import OrderDesk
from mediagate_sandbox.runner import Runner
from mediagate_sandbox.signing import Signer
from mediagate_sandbox.store import Store
from mediagate_sandbox.turnstile import Turnstile
from mediagate_sandbox.uploads import Uploads


@dataclass(frozen=True, slots=True)
class Beginning:
    """Everything that changes while a sandbox runs, but for the bill, which forgets nothing."""

    runner: Runner
    deliveries: Deliveries
    store: Store
    desk: OrderDesk
    uploads: Uploads
    signer: Signer
    faults: FaultEngine
    cuts: StreamCuts
    turnstile: Turnstile
    observations: Observations

    def restore(self) -> None:
        """Stop and forget all that was made, in one step: no request sees half of it.

        What still ran is canceled first, so that its entry on the bill is closed. Nobody is told:
        webhooks that are under way are given up.
        """
        for prediction in list(self.store.newest_first()):
            self.runner.cancel(prediction)
            self.store.forget(prediction)
        self.deliveries.stop()
        self.desk.cool_down()
        self.uploads.clear()
        self.signer.restore()
        self.faults.restore()
        self.cuts.restore()
        self.turnstile.restore()
        self.observations.reset()
