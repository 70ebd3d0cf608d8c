"""Settings of a sandbox, with meaning, unit and default.

This room only describes; it starts nothing and reads no environment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from mediagate_sandbox.faults.plan_parser import FaultPlan
from mediagate_sandbox.token_bucket import Credit, RateLimits
from mediagate_sandbox.urls import is_origin
from mediagate_sandbox.webhook_signing import key_of

MEBIBYTE = 1024 * 1024
_LAST_PORT = 65535

Auth = Literal["token", "open", "refuse"]
StreamDialectName = Literal["replicate", "cog"]
Billing = Literal["used", "free"]
"""How an end is billed: by the metrics that the run reported, or not at all."""


def _deployments() -> Mapping[str, str]:
    return MappingProxyType(
        {
            "sandbox/text": "meta/meta-llama-3-70b-instruct",
            "sandbox/image": "black-forest-labs/flux-schnell",
            "sandbox/video": "bytedance/seedance-1-pro",
            "sandbox/audio": "meta/musicgen",
        }
    )


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """Settings of one sandbox. Times are seconds unless the name says otherwise.

    Raises ValueError for a value no sandbox can run with.
    """

    host: str = "127.0.0.1"
    """Address to listen on. The control endpoints need no token, so keep it on loopback."""

    port: int = 8787
    """TCP port; 0 lets the system choose one (read it from `Sandbox.url`)."""

    tls: bool = False
    """Whether it speaks https, by a certificate made at the start (`Sandbox.ca_file` trusts it)."""

    tls_ca_file: Path | None = None
    """Where the certificate that clients must trust is written; None: to a temporary file."""

    public_url: str | None = None
    """Origin written into answers (`http://box:8787`). None: the host each caller asked for."""

    seed: int = 1
    """Seed of all texts and media. The same seed and input give the same bytes."""

    time_scale: float = 0.02
    """Real seconds per model second of a run or a boot: 0.02 makes a 60 s video take 1.2 s."""

    token_time_scale: float = 0.25
    """Real seconds per model second between streamed tokens and before the first one."""

    auth: Auth = "token"
    """`token`: a bearer token is needed. `open`: none is. `refuse`: every token gets 401."""

    token: str | None = field(default=None, repr=False)
    """The one token to accept under `auth="token"`; None accepts any that is not empty."""

    directives: bool = True
    """Whether `[[...]]` directives in prompts are obeyed (see prompt_directives.py)."""

    refuse_unknown_inputs: bool = False
    """Whether an input that the model does not name is a 422; else it is dropped, as there."""

    cold_boots: bool = False
    """Whether the first run of a community model waits for its boot, as on shared hardware."""

    late_answer_status: Literal[201, 202] = 201
    """Status of a `Prefer: wait` answer whose output was not complete in time."""

    inline_outputs: bool = False
    """Whether synchronous answers hold files as data URIs, as Replicate's did in October 2024."""

    min_cancel_after: float = 5.0
    """The shortest `Cancel-After` that is accepted; Replicate's is 5 s."""

    creates_per_minute: float | None = 600.0
    """How many predictions an account (a token) may create; None does not limit."""

    requests_per_minute: float | None = 3000.0
    """How many other requests an account may send; None does not limit."""

    gets_per_minute: float | None = 60_000.0
    """How many reads of one prediction it may send; None does not limit."""

    credit: Credit = "enough"
    """`low` allows 6 creates a minute, one at a time; `none` answers each with 402."""

    webhook_secret: str | None = field(default=None, repr=False)
    """Secret webhooks are signed with, `whsec_` and base64; None draws one at the start."""

    webhook_interval: float = 0.5
    """The least time between two webhooks that tell of output or logs; Replicate's is 0.5 s."""

    webhook_retry_span: float = 60.0
    """From the first attempt of a terminal webhook to its last retry; Replicate's is a minute."""

    webhook_timeout: float = 5.0
    """How long a webhook's receiver may take to answer."""

    webhooks_over_http: bool = False
    """Whether webhooks may go to any host without TLS, as between containers; loopback always."""

    run_limit: float | None = 1800.0
    """The longest run, in the model's seconds, before it fails; Replicate's is 30 minutes."""

    data_retention: float = 3600.0
    """How long after its end a prediction keeps input, output, logs and files; then they go."""

    stream_idle_timeout: float | None = 30.0
    """How long a stream may be silent before it is closed without `done`; None waits for ever."""

    stream_dialect: StreamDialectName = "replicate"
    """`replicate`: events of Replicate's streams. `cog`: those of its containers (Cog 0.22)."""

    stream_history: int = 1024
    """In Cog's dialect: how many events are kept for a reader that comes late, or comes back."""

    stream_linger: float = 0.1
    """How long a stream stays open after `done`, in real time, whatever the clock.

    Official clients leave at `done`, and the one for Go may lose it if the end comes right behind.
    """

    stream_retention: float = 3600.0
    """How long after its end a prediction's stream can still be opened and replayed."""

    cut_streams_after_bytes: int | None = None
    """Cut an event stream once this many bytes of it were sent; None never cuts."""

    cut_streams_times: int | None = 1
    """How many streams to cut so; None cuts every one."""

    max_upload_bytes: int = 100 * MEBIBYTE
    """The largest file that can be uploaded; Replicate's is 100 MB."""

    upload_retention: float = 86_400.0
    """How long an uploaded file is kept; Replicate's expire after a day."""

    keep_upload_bytes: int = 1024 * MEBIBYTE
    """How many bytes of uploaded files are kept on disk; the oldest are forgotten."""

    files_per_page: int = 100
    """Page length of the file list."""

    predictions_per_page: int = 100
    """Page length of the prediction list; Replicate's is 100."""

    models_per_page: int = 25
    """Page length of the model list."""

    deployments: Mapping[str, str] = field(default_factory=_deployments)
    """Deployments that exist: `owner/name` to the model they run."""

    keep_predictions: int = 10_000
    """How many predictions are kept, with their files; the oldest ended ones are forgotten."""

    keep_bytes: int = 256 * MEBIBYTE
    """How many bytes of inputs are kept with them; inlined files can be large."""

    media_cache_bytes: int = 256 * MEBIBYTE
    """How many bytes of finished media stay in memory; the rest is made again when read."""

    small_files: bool = False
    """Whether files are made tiny, whatever was asked for; metrics and bill stay as they were."""

    max_body_bytes: int = 20 * MEBIBYTE
    """The largest request body that is read; a larger one gets 413."""

    prices: Path | None = None
    """A file of prices laid over the sandbox's own; price_list.py says how it is written."""

    bill_failed: Billing = "used"
    """How failed runs are billed."""

    bill_canceled: Billing = "used"
    """How runs that were cancelled, or cut by their deadline, are billed."""

    bill_aborted: Billing = "free"
    """How runs that ended before they started are billed; on Replicate they are free."""

    bill_file: Path | None = None
    """A file that each closed entry of the bill is appended to, as a line of JSON."""

    faults: FaultPlan = field(default_factory=FaultPlan)
    """What goes wrong on purpose (faults/plan_parser.py says how a plan is written)."""

    fault_seed: int | None = None
    """Seed of the plan's draws where the plan names none; None draws one, which is logged."""

    control: bool = True
    """Whether the `/sandbox/...` endpoints for tests exist."""

    @property
    def rates(self) -> RateLimits:
        """Return the rate limits. Raises ValueError for an invalid one."""
        return RateLimits(
            self.creates_per_minute,
            self.requests_per_minute,
            gets_per_minute=self.gets_per_minute,
            credit=self.credit,
        )

    def __post_init__(self) -> None:
        """Validate: some values would fail only later and less clearly."""
        self._check_times()
        if not 0 <= self.port <= _LAST_PORT:
            raise ValueError(f"port must be from 0 to {_LAST_PORT}")
        if self.public_url is not None and not is_origin(self.public_url.removesuffix("/")):
            raise ValueError("public_url must be an origin such as http://box:8787")
        if self.tls_ca_file is not None and not self.tls:
            raise ValueError("tls_ca_file needs tls")
        self._check_streams()
        _ = self.rates
        if min(self.predictions_per_page, self.models_per_page, self.files_per_page) < 1:
            raise ValueError("a page holds at least one entry")
        if not {self.bill_failed, self.bill_canceled, self.bill_aborted} <= {"used", "free"}:
            raise ValueError("bill_failed, bill_canceled and bill_aborted are used or free")
        if self.webhook_secret is not None:
            key_of(self.webhook_secret)
        if self.token is not None and not self.token:
            raise ValueError("token must not be empty; leave it out to accept any token")

    def _check_streams(self) -> None:
        if self.stream_dialect not in ("replicate", "cog"):
            raise ValueError("stream_dialect is replicate or cog")
        if self.stream_history < 1:
            raise ValueError("stream_history must be 1 or more")
        if self.cut_streams_after_bytes is not None and self.cut_streams_after_bytes < 0:
            raise ValueError("cut_streams_after_bytes must be 0 or more")

    def _check_times(self) -> None:
        times = (
            "time_scale",
            "token_time_scale",
            "min_cancel_after",
            "webhook_interval",
            "webhook_retry_span",
            "stream_linger",
            "stream_retention",
            "data_retention",
            "upload_retention",
        )
        for name in times:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number, 0 or more")
        for name in ("webhook_timeout", "stream_idle_timeout", "run_limit"):
            limit = getattr(self, name)
            if limit is not None and not 0 < limit < math.inf:
                raise ValueError(f"{name} must be a finite number, more than 0")
