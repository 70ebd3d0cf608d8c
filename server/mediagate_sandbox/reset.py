"""Puts a running sandbox back to where it began, for tests that share one."""

from __future__ import annotations

from dataclasses import dataclass

from mediagate_sandbox.create_requests import CreateRequestParser
from mediagate_sandbox.faults.engine import FaultEngine
from mediagate_sandbox.middleware.rate_limit import RateLimitMiddleware
from mediagate_sandbox.request_log import RequestLog
from mediagate_sandbox.runner import Runner
from mediagate_sandbox.store import Store
from mediagate_sandbox.stream_cuts import StreamCuts
from mediagate_sandbox.uploads import Uploads
from mediagate_sandbox.webhook_delivery import WebhookDeliverer
from mediagate_sandbox.webhook_signing import WebhookSigner


@dataclass(frozen=True, slots=True)
class SandboxReset:
    """Everything that changes while a sandbox runs, but for the bill, which forgets nothing."""

    runner: Runner
    deliveries: WebhookDeliverer
    store: Store
    desk: CreateRequestParser
    uploads: Uploads
    signer: WebhookSigner
    faults: FaultEngine
    cuts: StreamCuts
    turnstile: RateLimitMiddleware
    observations: RequestLog

    def apply(self) -> None:
        """Stop and forget all that was made, in one step: no request sees half of it.

        What still ran is canceled first, so that its entry on the bill is closed. Nobody is told:
        webhooks that are under way are given up.
        """
        for prediction in list(self.store.newest_first()):
            self.runner.cancel(prediction)
            self.store.forget(prediction)
        self.deliveries.stop()
        self.desk.reset_warm_models()
        self.uploads.clear()
        self.signer.restore()
        self.faults.reset_plan()
        self.cuts.restore()
        self.turnstile.restore()
        self.observations.reset()
