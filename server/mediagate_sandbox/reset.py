"""Reset of a running sandbox to its initial state, for tests that share one."""

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
    """All state of a running sandbox but the bill, and its reset."""

    runner: Runner
    deliverer: WebhookDeliverer
    store: Store
    parser: CreateRequestParser
    uploads: Uploads
    signer: WebhookSigner
    faults: FaultEngine
    cuts: StreamCuts
    rate_limit: RateLimitMiddleware
    request_log: RequestLog

    def apply(self) -> None:
        """Stop and clear everything in one step: no request sees a partial reset.

        What still ran is canceled first, so that its entry on the bill is closed. Nobody is told:
        webhooks that are under way are given up.
        """
        for prediction in list(self.store.newest_first()):
            self.runner.cancel(prediction)
            self.store.forget(prediction)
        self.deliverer.stop()
        self.parser.reset_warm_models()
        self.uploads.clear()
        self.signer.restore()
        self.faults.reset_plan()
        self.cuts.restore()
        self.rate_limit.restore()
        self.request_log.reset()
