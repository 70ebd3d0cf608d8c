"""Prometheus metrics. Labels come from closed sets only: a caller can never mint a series.

Model labels are catalog slugs, never what a caller typed. Nothing here sees prompts or secrets.
The `grpc_server_*` names are those that stock dashboards for gRPC expect.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

OTHER_MODEL: Final = "other"
"""The model label of requests that belong to no model of the catalog."""
REGISTRY: Final = CollectorRegistry(auto_describe=True)
_RPC_LABELS = ("grpc_type", "grpc_service", "grpc_method")
_TIME = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_COMMIT_TIME = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
"""Histogram buckets, in seconds."""
rpc_started = Counter(
    "grpc_server_started", "RPCs started on the server.", _RPC_LABELS, registry=REGISTRY
)
rpc_handled = Counter(
    "grpc_server_handled",
    "RPCs completed on the server, whatever their code.",
    (*_RPC_LABELS, "grpc_code"),
    registry=REGISTRY,
)
rpc_received = Counter(
    "grpc_server_msg_received", "Messages received from callers.", _RPC_LABELS, registry=REGISTRY
)
rpc_sent = Counter(
    "grpc_server_msg_sent", "Messages sent to callers.", _RPC_LABELS, registry=REGISTRY
)
rpc_seconds = Histogram(
    "grpc_server_handling_seconds",
    "Seconds from the start of an rpc to its end.",
    _RPC_LABELS,
    buckets=_TIME,
    registry=REGISTRY,
)
rpcs_open = Gauge(
    "mediagate_rpcs_open",
    "RPCs being served that count against `max_open_rpcs`.",
    registry=REGISTRY,
)
rpcs_refused = Counter(
    "mediagate_rpcs_refused",
    "Rpcs refused with QUEUE_FULL because too many were open, in all or of one caller.",
    registry=REGISTRY,
)
discarded_values = Counter(
    "mediagate_upstream_discarded_values",
    "Fields of upstream responses dropped because their value is out of range, by field.",
    ("field",),
    registry=REGISTRY,
)
generations = Counter(
    "mediagate_generations",
    "Generations that reached a terminal state.",
    ("modality", "model", "state"),
    registry=REGISTRY,
)
generations_in_flight = Gauge(
    "mediagate_generations_in_flight",
    "Generations accepted and not yet terminal in this process.",
    ("modality",),
    registry=REGISTRY,
)
generation_seconds = Histogram(
    "mediagate_generation_seconds",
    "Seconds from acceptance to the terminal state.",
    ("modality", "model"),
    buckets=_TIME,
    registry=REGISTRY,
)
first_token_seconds = Histogram(
    "mediagate_time_to_first_token_seconds",
    "Seconds from acceptance to the first delta of a text.",
    ("model",),
    buckets=_TIME,
    registry=REGISTRY,
)
tokens = Counter(
    "mediagate_tokens",
    "Tokens that upstream reported.",
    ("model", "direction"),
    registry=REGISTRY,
)
images = Counter("mediagate_images", "Images made.", ("model",), registry=REGISTRY)
media_seconds = Counter(
    "mediagate_media_seconds",
    "Seconds of video or audio made, as upstream reported them.",
    ("modality", "model"),
    registry=REGISTRY,
)
cost_nanos = Counter(
    "mediagate_cost_usd_nanos",
    "Settled cost in nano-dollars. Only settling a ledger entry counts money.",
    ("modality", "model"),
    registry=REGISTRY,
)
costs_unknown = Counter(
    "mediagate_costs_unknown",
    "Attempts that settled without a known cost: not zero, unknown.",
    ("modality", "model"),
    registry=REGISTRY,
)
budget_nanos = Gauge(
    "mediagate_budget_usd_nanos",
    "Budget limit, spent and reserved (held) amounts in nano-dollars, in the current period.",
    ("tenant", "budget", "amount"),
    registry=REGISTRY,
)
budget_threshold_events = Counter(
    "mediagate_budget_crossings",
    "Budget thresholds (percent) reached, once per period and limit.",
    ("tenant", "budget", "percent"),
    registry=REGISTRY,
)
budget_refusals = Counter(
    "mediagate_budget_refusals",
    "Attempts rejected by a budget; a shadow budget only counts them.",
    ("tenant", "budget", "shadow"),
    registry=REGISTRY,
)
outputs = Counter(
    "mediagate_outputs",
    "Media outputs archived, by outcome.",
    ("outcome",),
    registry=REGISTRY,
)
media_reads = Counter(
    "mediagate_media_reads",
    "HTTP requests for archived media, by status.",
    ("status",),
    registry=REGISTRY,
)
output_bytes = Counter("mediagate_output_bytes", "Bytes of media archived.", registry=REGISTRY)
unexpected_errors = Counter(
    "mediagate_unexpected_errors",
    "Unexpected exceptions that ended a background job, which was restarted, by job. Any is a "
    "bug to report.",
    ("work",),
    registry=REGISTRY,
)
generations_quarantined = Counter(
    "mediagate_generations_quarantined",
    "Generations whose output is skipped because processing it crashed the server or failed "
    "repeatedly, by cause. Alert on any.",
    ("cause",),
    registry=REGISTRY,
)
worker_jobs_killed = Counter(
    "mediagate_worker_jobs_killed",
    "Worker jobs whose process was killed, by cause: expired, out_of_memory or crashed.",
    ("cause",),
    registry=REGISTRY,
)
attempts_matched = Counter(
    "mediagate_attempts_adopted",
    "Creates with a lost response whose prediction was found, by source.",
    ("found_by",),
    registry=REGISTRY,
)
attempts_absent = Counter(
    "mediagate_attempts_absent",
    "Creates with a lost response that were proven never to have been accepted.",
    registry=REGISTRY,
)
attempts_misanswered = Counter(
    "mediagate_attempts_misanswered",
    "Creates answered with the id of another attempt's prediction; treated as unconfirmed.",
    registry=REGISTRY,
)
attempts_next_when_unconfirmed = Counter(
    "mediagate_attempts_beside",
    "Creates submitted while another attempt for the same output was unconfirmed.",
    registry=REGISTRY,
)
attempts_late = Counter(
    "mediagate_attempts_overrun",
    "Predictions that appeared (and were charged) after their attempt was declared absent. Alert "
    "on any.",
    registry=REGISTRY,
)
attempts_ambiguous = Counter(
    "mediagate_attempts_undecided",
    "Unconfirmed attempts with a candidate prediction that could not be matched with certainty, "
    "once per sweep.",
    registry=REGISTRY,
)
reconciled_charges = Counter(
    "mediagate_reconciled",
    "Charges and predictions compared with the upstream prediction list, by outcome.",
    ("outcome",),
    registry=REGISTRY,
)
reconciled_timestamp = Gauge(
    "mediagate_reconciled_timestamp_seconds",
    "Unix time of the last complete reconciliation.",
    registry=REGISTRY,
)
upstream_requests = Counter(
    "mediagate_upstream_requests",
    "Requests sent to upstream, retries included.",
    ("endpoint", "outcome"),
    registry=REGISTRY,
)
upstream_seconds = Histogram(
    "mediagate_upstream_request_seconds",
    "Seconds until upstream responded (streams: until opened).",
    ("endpoint",),
    buckets=_TIME,
    registry=REGISTRY,
)
streams_open = Gauge(
    "mediagate_upstream_streams_open", "Open SSE streams to upstream.", registry=REGISTRY
)
streams_not_opened = Counter(
    "mediagate_upstream_streams_not_opened",
    "Streams not opened because of `upstream_max_streams`; those predictions are polled instead.",
    registry=REGISTRY,
)
upstream_retries = Counter(
    "mediagate_upstream_retries",
    "Requests retried, by endpoint and cause.",
    ("endpoint", "cause"),
    registry=REGISTRY,
)
upstream_paced_seconds = Histogram(
    "mediagate_upstream_paced_seconds",
    "Seconds a request waited for the account's rate limit.",
    ("endpoint",),
    buckets=_TIME,
    registry=REGISTRY,
)
breaker_open = Gauge(
    "mediagate_breaker_open",
    "1 while the circuit breaker of this model is open.",
    ("model",),
    registry=REGISTRY,
)
catalog_findings = Gauge(
    "mediagate_catalog_findings",
    "Differences between catalog and upstream found by the last check, by kind.",
    ("kind",),
    registry=REGISTRY,
)
catalog_old_prices = Gauge(
    "mediagate_catalog_old_prices",
    "Models whose price was read more than 60 days ago.",
    registry=REGISTRY,
)
catalog_unknown_prices = Gauge(
    "mediagate_catalog_unknown_prices",
    "Models of which no price is known.",
    registry=REGISTRY,
)
upstream_webhooks = Counter(
    "mediagate_webhooks",
    "Webhooks received from Replicate, by outcome.",
    ("outcome",),
    registry=REGISTRY,
)
http_malformed = Counter(
    "mediagate_http_malformed",
    "Malformed HTTP requests, by port.",
    ("port",),
    registry=REGISTRY,
)
web_connections_closed = Counter(
    "mediagate_web_connections_cut",
    "Connections to the public HTTP port closed before a known URL was requested, by reason: "
    "crowded or slow.",
    ("why",),
    registry=REGISTRY,
)
webhook_deliveries = Counter(
    "mediagate_callbacks",
    "Webhook delivery attempts to callers, by outcome.",
    ("outcome",),
    registry=REGISTRY,
)
webhooks_undelivered = Counter(
    "mediagate_callbacks_undelivered",
    "Webhooks given up after the last delivery attempt.",
    registry=REGISTRY,
)
commit_seconds = Histogram(
    "mediagate_store_commit_seconds",
    "Seconds of one durable group commit.",
    buckets=_COMMIT_TIME,
    registry=REGISTRY,
)
failed_commits = Counter(
    "mediagate_store_commits_failed",
    "Store commits that failed and were rolled back.",
    registry=REGISTRY,
)
log_lines_lost = Counter(
    "mediagate_log_lines_lost",
    "Log lines dropped because the log's reader was too slow.",
    registry=REGISTRY,
)
