"""Metrics and logs. Labels come from closed sets only: a caller can never mint a series.

Model labels are catalog slugs, never what a caller typed. Nothing here sees prompts or secrets.
The `grpc_server_*` names are those that stock dashboards for gRPC expect.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

OTHER_MODEL: Final = "other"
"""The model label of requests that belong to no model of the catalog."""
REGISTRY: Final = CollectorRegistry(auto_describe=True)
_CALL = ("grpc_type", "grpc_service", "grpc_method")
_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_COMMIT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
rpc_started = Counter(
    "grpc_server_started", "RPCs started on the server.", _CALL, registry=REGISTRY
)
rpc_handled = Counter(
    "grpc_server_handled",
    "RPCs completed on the server, whatever their code.",
    (*_CALL, "grpc_code"),
    registry=REGISTRY,
)
rpc_received = Counter(
    "grpc_server_msg_received", "Messages received from callers.", _CALL, registry=REGISTRY
)
rpc_sent = Counter("grpc_server_msg_sent", "Messages sent to callers.", _CALL, registry=REGISTRY)
rpc_seconds = Histogram(
    "grpc_server_handling_seconds",
    "Seconds from the start of an rpc to its end.",
    _CALL,
    buckets=_FAST,
    registry=REGISTRY,
)
rpcs_open = Gauge(
    "mediagate_rpcs_open", "Rpcs that hold a place of `max_open_rpcs` now.", registry=REGISTRY
)
rpcs_refused = Counter(
    "mediagate_rpcs_refused",
    "Rpcs refused with QUEUE_FULL because too many were open, in all or of one caller.",
    registry=REGISTRY,
)
discarded_values = Counter(
    "mediagate_upstream_discarded_values",
    "Fields of upstream's answers whose values nothing can hold, by field.",
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
    buckets=_FAST,
    registry=REGISTRY,
)
first_token_seconds = Histogram(
    "mediagate_time_to_first_token_seconds",
    "Seconds from acceptance to the first delta of a text.",
    ("model",),
    buckets=_FAST,
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
    "Budgets in nano-dollars: limit, spent and held in the span of the last call.",
    ("tenant", "budget", "amount"),
    registry=REGISTRY,
)
budget_threshold_events = Counter(
    "mediagate_budget_crossings",
    "Budgets of which so many percent were spent, once for each span and limit.",
    ("tenant", "budget", "percent"),
    registry=REGISTRY,
)
budget_refusals = Counter(
    "mediagate_budget_refusals",
    "Attempts that did not fit into a budget; those of a shadow budget were let pass.",
    ("tenant", "budget", "shadow"),
    registry=REGISTRY,
)
outputs = Counter(
    "mediagate_outputs",
    "Finished media that were kept, or could not be.",
    ("outcome",),
    registry=REGISTRY,
)
media_reads = Counter(
    "mediagate_media_reads",
    "Requests for kept media on the web port, by their status.",
    ("status",),
    registry=REGISTRY,
)
output_bytes = Counter("mediagate_output_bytes", "Bytes of media kept.", registry=REGISTRY)
unexpected_errors = Counter(
    "mediagate_unexpected_errors",
    "Bugs of the gate that ended some work, which then began anew. Any is worth a report.",
    ("work",),
    registry=REGISTRY,
)
generations_quarantined = Counter(
    "mediagate_generations_quarantined",
    "Generations whose output is passed over because handling it did harm: by crashes or errors. "
    "Any is worth an alarm.",
    ("cause",),
    registry=REGISTRY,
)
worker_jobs_killed = Counter(
    "mediagate_worker_jobs_killed",
    "Jobs on outside data whose process was killed: expired, out_of_memory or crashed.",
    ("cause",),
    registry=REGISTRY,
)
attempts_matched = Counter(
    "mediagate_attempts_adopted",
    "Creates whose answer was lost and whose prediction was found.",
    ("found_by",),
    registry=REGISTRY,
)
attempts_absent = Counter(
    "mediagate_attempts_absent",
    "Creates whose answer was lost and that were proven never to have arrived.",
    registry=REGISTRY,
)
attempts_misanswered = Counter(
    "mediagate_attempts_misanswered",
    "Creates that upstream answered with the id of another's prediction; then looked for.",
    registry=REGISTRY,
)
attempts_next_when_unconfirmed = Counter(
    "mediagate_attempts_beside",
    "Creates that were sent while another of the same output was in doubt, as its caller wished.",
    registry=REGISTRY,
)
attempts_late = Counter(
    "mediagate_attempts_overrun",
    "Creates that were paid after they had been declared absent. Any is worth an alarm.",
    registry=REGISTRY,
)
attempts_ambiguous = Counter(
    "mediagate_attempts_undecided",
    "Sweeps that found a prediction which may be ours, and could not tell whether it is.",
    registry=REGISTRY,
)
reconciled_charges = Counter(
    "mediagate_reconciled",
    "Charges and predictions that were compared with upstream's list, by what came of it.",
    ("outcome",),
    registry=REGISTRY,
)
reconciled_at = Gauge(
    "mediagate_reconciled_timestamp_seconds",
    "When upstream's list was last read to its end and compared with the ledger.",
    registry=REGISTRY,
)
upstream_requests = Counter(
    "mediagate_upstream_requests",
    "Requests sent to upstream, every try counted.",
    ("endpoint", "outcome"),
    registry=REGISTRY,
)
upstream_seconds = Histogram(
    "mediagate_upstream_request_seconds",
    "Seconds until upstream answered (streams: until they opened).",
    ("endpoint",),
    buckets=_FAST,
    registry=REGISTRY,
)
streams_open = Gauge(
    "mediagate_upstream_streams_open", "Streams of texts open to upstream.", registry=REGISTRY
)
streams_not_opened = Counter(
    "mediagate_upstream_streams_not_opened",
    "Streams not opened because `upstream_max_streams` were: their texts are polled meanwhile.",
    registry=REGISTRY,
)
upstream_retries = Counter(
    "mediagate_upstream_retries",
    "Requests sent again after a refusal or no answer.",
    ("endpoint", "cause"),
    registry=REGISTRY,
)
upstream_paced_seconds = Histogram(
    "mediagate_upstream_paced_seconds",
    "Seconds a request waited for the account's rate.",
    ("endpoint",),
    buckets=_FAST,
    registry=REGISTRY,
)
breaker_open = Gauge(
    "mediagate_breaker_open",
    "1 while no request is sent to this model because too many failed.",
    ("model",),
    registry=REGISTRY,
)
catalog_findings = Gauge(
    "mediagate_catalog_findings",
    "What the last comparison with upstream found, by kind of finding.",
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
    "Webhooks that came in, by what became of them.",
    ("outcome",),
    registry=REGISTRY,
)
http_malformed = Counter(
    "mediagate_http_malformed",
    "Requests to the web and operations ports that are no HTTP, by port.",
    ("port",),
    registry=REGISTRY,
)
web_connections_closed = Counter(
    "mediagate_web_connections_cut",
    "Connections to the web port that were cut before they named an address of the gate, by why: "
    "crowded (there were newer ones) or slow.",
    ("why",),
    registry=REGISTRY,
)
webhook_deliveries = Counter(
    "mediagate_callbacks",
    "Webhooks posted to callers, every try counted, by what became of it.",
    ("outcome",),
    registry=REGISTRY,
)
webhooks_undelivered = Counter(
    "mediagate_callbacks_undelivered",
    "Webhooks whose last try has failed.",
    registry=REGISTRY,
)
commit_seconds = Histogram(
    "mediagate_store_commit_seconds",
    "Seconds of one durable group commit.",
    buckets=_COMMIT,
    registry=REGISTRY,
)
failed_commits = Counter(
    "mediagate_store_commits_failed",
    "Commits that failed: the disk was full, broken or locked. Nothing of them was written.",
    registry=REGISTRY,
)
log_lines_lost = Counter(
    "mediagate_log_lines_lost",
    "Log lines that are nowhere: too many waited for a reader of the log who had stopped reading.",
    registry=REGISTRY,
)
