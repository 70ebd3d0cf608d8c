"""Settings: meaning, unit, range and default of each. Does not know where they come from."""

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from mediagate_server.config.address import is_loopback, split_address, split_bucket_url
from mediagate_server.config.file import ConfigError
from mediagate_server.config.tenants import AssumedUsd, StoreInputs, Tenant
from mediagate_server.network.egress_policy import EgressPolicy

_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{4,}={0,2}")
REPLICATE_API: Final = "https://api.replicate.com/v1"


@dataclass(frozen=True, slots=True)
class UpstreamChoice:
    """The chosen upstream. `base_url` is empty for the embedded sandbox, which is yet to start."""

    kind: Literal["replicate", "sandbox", "url"]
    base_url: str
    token: str | None = field(repr=False)


def _tcp_address(value: str) -> str:
    split_address(value)
    return value


def _grpc_address(value: str) -> str:
    return value if value.startswith("unix:/") else _tcp_address(value)


def _url(value: str) -> str:
    """An http or https URL, or empty. Errors never repeat it: it may hold a password."""
    if not value:
        return value
    url = urlsplit(value)
    if url.scheme not in {"http", "https"} or not url.hostname or url.port == 0:
        raise ValueError("must be an http or https URL with a host")
    if url.username is not None or url.password is not None:
        raise ValueError("must not hold user or password")
    if url.query or url.fragment:
        raise ValueError("must not have a query or a fragment")
    return value


def _bucket_url(value: str) -> str:
    """`s3://bucket`, optionally with a prefix, or empty."""
    if value:
        split_bucket_url(value)
    return value


def _token(value: SecretStr | None) -> SecretStr | None:
    """A token: one line of printable characters; anything else would break or forge a header."""
    if value is None:
        return None
    text = value.get_secret_value()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("holds characters that no token has")
    return value


def _webhook_secret(value: SecretStr) -> SecretStr:
    """A secret of Standard Webhooks. Errors never repeat it."""
    prefix, _, encoded = value.get_secret_value().partition("_")
    if prefix != "whsec" or not _BASE64.fullmatch(encoded) or len(encoded) % 4:
        raise ValueError("is no webhook secret: one is whsec_ and base64")
    return value


def _unimplemented(value: SecretStr | None) -> SecretStr | None:
    """Empty only. Errors never repeat the value: it may hold a password."""
    if value is None or not value.get_secret_value():
        return None
    raise ValueError(
        "is not built yet: this server keeps its records in SQLite in data_dir, and its limits in "
        "its own process. Leave it unset"
    )


TcpAddress = Annotated[str, AfterValidator(_tcp_address)]
GrpcAddress = Annotated[str, AfterValidator(_grpc_address)]
Url = Annotated[str, AfterValidator(_url)]
BucketUrl = Annotated[str, AfterValidator(_bucket_url)]
Unimplemented = Annotated[SecretStr | None, AfterValidator(_unimplemented)]
Token = Annotated[SecretStr | None, AfterValidator(_token)]
WebhookSecret = Annotated[SecretStr, AfterValidator(_webhook_secret)]
Slug = Annotated[str, Field(min_length=1)]
PerMinute = Annotated[int, Field(ge=1)]
Limit = Annotated[int, Field(ge=0)]
RunTimeout = Annotated[float, Field(ge=5, le=86_400)]
WireTimeout = Annotated[float, Field(gt=0, le=600)]
RetentionSeconds = Annotated[float, Field(ge=0, le=315_360_000)]
FileBytes = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """All settings. Durations in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    grpc_address: GrpcAddress = "127.0.0.1:50051"
    """HOST:PORT, or `unix:/path`."""
    ops_address: TcpAddress = "127.0.0.1:9464"
    web_address: TcpAddress = "127.0.0.1:9465"
    """Listens where upstream can connect: with `public_url`, or for the embedded sandbox."""
    public_url: Url = ""
    """External URL of the web port. Unset: no webhooks from upstream, it is polled instead."""
    data_dir: Path = Path(".mediagate")
    """Folder of the database."""
    database_url: Unimplemented = None
    """Rejected, not implemented: the store is SQLite in `data_dir`."""
    redis_url: Unimplemented = None
    """Rejected, not implemented: limits are in process memory."""
    lease_seconds: float = Field(default=15.0, ge=1, le=600)
    """Lease on the data folder: how long a server that hangs keeps the next one out."""
    drain_seconds: float = Field(default=5.0, ge=0, le=600)
    """Grace period of open rpcs at shutdown."""
    connection_age: float = Field(default=1_800.0, ge=1, le=86_400)
    """Maximum connection age, after which a client reconnects, so that calls spread over new
    replicas."""
    connection_grace: float = Field(default=90_000.0, ge=90_000, le=864_000)
    """Grace period of calls on such a connection: longer than a billable call can take, which is 24
    h and its settlement, so that age cuts watches alone; they are resumed."""
    reflection: bool = True
    """gRPC server reflection."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "text"] = "auto"
    """Automatic: text where stderr is a terminal, else JSON."""
    insecure_public: bool = False
    """Allow gRPC without API keys on an address that others can reach."""

    upstream: Literal["replicate", "sandbox"] | None = None
    """Unset: Replicate if there is a token, else the sandbox."""
    upstream_url: Url = ""
    """Base URL of any Replicate-compatible API. Beats `upstream`."""
    replicate_api_token: Token = None
    upstream_account: Slug = "default"
    """Name of this account in records."""
    webhook_secrets: tuple[WebhookSecret, ...] = ()
    """Signing secrets of webhooks, besides the one that the upstream API returns."""
    upstream_exclusive: bool = True
    """Whether nobody else uses this account: then a prediction without an attempt is ours."""
    upstream_playback: bool = False
    """Whether upstream replays recordings, with one id for all: then a create may return a
    prediction of another attempt. Never so for an upstream that charges."""
    creates_per_minute: PerMinute = 600
    reads_per_minute: PerMinute = 3_000
    upstream_max_streams: Annotated[int, Field(ge=1, le=100_000)] = 1_200
    """Maximum open text streams to upstream; further texts are polled."""
    upstream_connect_timeout: WireTimeout = 3.0
    """Must be shorter than the create and read timeouts."""
    upstream_create_timeout: WireTimeout = 30.0
    upstream_read_timeout: WireTimeout = 10.0
    upstream_upload_timeout: WireTimeout = 300.0
    """Timeout of one file upload to upstream."""
    receive_timeout: WireTimeout = 60.0
    """Timeout to receive a complete request message."""
    sweep_seconds: float = Field(default=30.0, gt=0, le=300)
    """Interval of the search for predictions of unconfirmed creates in upstream's list."""
    reconcile_seconds: float = Field(default=300.0, ge=0, le=1_800)
    """Interval of reconciliation with that list, well inside the hour; 0 is never."""
    absent_margin: float = Field(default=60.0, gt=0, le=3_600)
    """Time after a create timeout from which it may be declared not to have arrived. Shorter than
    upstream needs to list a prediction, and a run may be charged twice."""
    api_error_margin: float = Field(default=20.0, gt=0, le=3_600)
    """The same for a create that upstream's API answered with a 500 or 503 of its own, from that
    response on; never longer than the other."""

    allow_next_when_unconfirmed: bool = False
    """Whether callers may have a fallback sent while a create is unconfirmed, at the risk of a
    double charge."""

    webhook_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks allowed as targets of callers' webhooks, besides the public internet; also by plain
    http. None: no private network, and not this machine."""

    requests_per_minute: Limit = 0
    """Rate limit per tenant; 0 is no limit."""
    max_open_rpcs: Limit = 20_000
    """Maximum concurrent rpcs of all tenants, which one may use alone. 0 is no limit."""
    max_in_flight: Limit = 500
    """Maximum concurrent generations of a tenant; 0 is no limit."""

    assume_unknown_usd: AssumedUsd = None
    """Assumed cost of a run where it is unknown; unset: as the catalog assumes, or unknown."""
    allow_assumed_prices: bool = True
    """Whether assumed prices of the catalog may limit and settle calls."""
    allow_weaker_safety: bool = False
    """Whether callers may weaken or switch off safety checks by the models' own inputs."""
    tenants: tuple[Tenant, ...] = ()
    """Tenants. None: no authentication, all callers are the tenant `local`."""

    output_max_bytes: FileBytes = 4_294_967_296
    """Maximum size of a stored output."""
    output_timeout: float = Field(default=600.0, ge=1, le=3_600)
    """Timeout of one attempt to download and store an output."""
    output_idle_timeout: float = Field(default=30.0, gt=0, le=600)
    """Idle timeout of a download, after which it is retried."""
    upload_max_bytes: Annotated[int, Field(ge=1, le=100_000_000)] = 100_000_000
    """Maximum size of an upload. Replicate takes no file over 100 MB."""
    upload_life: float = Field(default=86_400.0, ge=60, le=31_536_000)
    """Lifetime of an upload."""
    store_inputs: StoreInputs = "none"
    """How much of a request is stored for display, where its tenant sets nothing else."""
    inputs_life: RetentionSeconds = 30 * 86_400.0
    """Retention of stored requests; 0: unlimited. Likewise the next two."""
    text_life: RetentionSeconds = 30 * 86_400.0
    media_life: RetentionSeconds = 30 * 86_400.0
    link_life: float = Field(default=3_600.0, ge=60, le=604_800)
    """Lifetime of a link to a stored output; S3 presigns for a week at most."""
    storage_url: BucketUrl = ""
    """`s3://bucket/prefix`: bucket for media. Unset: `data_dir`."""
    storage_endpoint: Url = ""
    """Endpoint of another storage with the S3 API. Unset: AWS."""
    storage_region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")] = "us-east-1"
    storage_access_key_id: Token = None
    """Unset: AWS's default credentials."""
    storage_secret_access_key: Token = None

    default_text_model: Slug = "llama-70b"
    default_image_model: Slug = "flux-pro"
    default_video_model: Slug = "minimax-video"
    default_audio_model: Slug = "musicgen"
    default_safety_model: Slug = "llama-guard"
    text_timeout: RunTimeout = 600.0
    """Default timeout of a generation, from acceptance to its end; likewise the others."""
    image_timeout: RunTimeout = 300.0
    video_timeout: RunTimeout = 1_800.0
    audio_timeout: RunTimeout = 300.0
    safety_timeout: RunTimeout = 600.0
    run_timeout: RunTimeout = 1_800.0
    catalog_files: tuple[Path, ...] = ()
    """Model files of the operator, which override the shipped ones."""
    catalog_check_hours: float = Field(default=24.0, ge=0)
    """Interval of the catalog drift check in hours; 0 is never."""
    use_fallback: bool = True
    """Whether requests that set no fallback use the catalog's."""
    enable_cost_optimization: bool = True
    """Where no model is named, a cheaper one of the same quality than the default may be chosen:
    always where the quality is named, else where the default may exceed the cost limit of the
    call."""

    @model_validator(mode="after")
    def _check_storage_keys(self) -> Self:
        if (self.storage_access_key_id is None) != (self.storage_secret_access_key is None):
            raise ValueError("storage_access_key_id and storage_secret_access_key need each other")
        return self

    @model_validator(mode="after")
    def _check_connect_timeout(self) -> Self:
        others = self.upstream_create_timeout, self.upstream_read_timeout
        if self.upstream_connect_timeout >= min(others):
            raise ValueError("upstream_connect_timeout must be shorter than create and read")
        return self

    @model_validator(mode="after")
    def _check_webhook_urls(self) -> Self:
        egress = EgressPolicy(self.webhook_networks)
        for tenant in self.tenants:
            url = urlsplit(tenant.webhook_url)
            is_plaintext = url.scheme != "https"
            if url.hostname and not egress.allows_host(url.hostname, plaintext=is_plaintext):
                raise ValueError(
                    f"tenants.{tenant.id}.webhook_url leads where webhook_networks lets nothing in"
                )
        return self

    def upstream_choice(self) -> UpstreamChoice:
        """Upstream and its token. ConfigError says what to do where it is not complete."""
        token = self.replicate_api_token.get_secret_value() if self.replicate_api_token else None
        if self.upstream_url:
            return UpstreamChoice("url", self.upstream_url, token)
        kind = self.upstream or ("replicate" if token else "sandbox")
        if kind == "sandbox":
            # The sandbox accepts any token; the operator's must not be sent to it.
            return UpstreamChoice("sandbox", "", "sandbox")
        if not token:
            raise ConfigError(
                "MEDIAGATE_UPSTREAM=replicate needs a token: set REPLICATE_API_TOKEN, or use "
                "MEDIAGATE_UPSTREAM=sandbox to try everything without an account"
            )
        return UpstreamChoice("replicate", REPLICATE_API, token)

    def check_exposure(self) -> None:
        """Require API keys or a loopback address, or the permission to do without. ConfigError."""
        if self.tenants or self.insecure_public or is_loopback(self.grpc_address):
            return
        raise ConfigError(
            f"grpc_address {self.grpc_address} can be reached by others and no keys are "
            "configured: anybody could spend your money. Give each caller a [tenants.NAME] with "
            "keys, listen on 127.0.0.1, or set MEDIAGATE_INSECURE_PUBLIC=1 if something else "
            "guards the port"
        )

    def check_public_url(self) -> None:
        """Require https of `public_url`: Replicate rejects a create with any other webhook URL.

        Raises ConfigError: without this every call would fail.
        """
        is_plain = self.public_url.startswith("http://")
        if is_plain and self.upstream_choice().kind == "replicate":
            raise ConfigError(
                "public_url must be https: Replicate posts webhooks to nothing else. Leave it "
                "unset to do without webhooks; every end is found by asking as well"
            )
