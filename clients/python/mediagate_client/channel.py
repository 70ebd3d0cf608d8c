"""How a channel to a gate is set up, for both faces of the client.

Everything here is a fact about the transport; no rpc is known here.
"""

import importlib.metadata
import importlib.resources
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import grpc
from google.protobuf.message import Message

from mediagate_client.errors import RequestTooLarge

DEFAULT_TARGET: Final = "127.0.0.1:50051"

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""The largest message that a gate takes, or that this client reads."""

ChannelType = TypeVar("ChannelType")
Options = Sequence[tuple[str, str | int]]
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Channels(Generic[ChannelType]):
    """One client's channels to a gate, by how long their calls are open.

    A connection has room for 500 rpcs at once; a 501st waits at this end until one is over. On one
    connection silent streams would keep out the very call that cancels them.
    """

    paid: ChannelType
    """Paid calls, streams, and files."""
    waits: ChannelType
    """WaitGeneration and WatchGeneration."""
    control: ChannelType
    """What is answered at once: get, list, cancel, delete, and all other reads."""

    @classmethod
    def same(cls, channel: ChannelType) -> "Channels[ChannelType]":
        """One for all, where the caller brings it along."""
        return cls(channel, channel, channel)


SEPARATE_CONNECTION: Final[Mapping[str, str | int]] = {"grpc.use_local_subchannel_pool": 1}
"""Channels with the same target and options share a connection otherwise."""


def service_config() -> str:
    """Return the service config as JSON: balancing, health checks, and retries of reads alone.

    Paid methods are not in it: only a caller who named the call (request_id) may send it again.
    The retries are for other clients: this one sends reads and paid calls again by itself.
    """
    return (
        importlib.resources.files("mediagate_client")
        .joinpath("service_config.json")
        .read_text(encoding="utf-8")
    )


def channel_options(extra: Mapping[str, str | int] | None = None) -> list[tuple[str, str | int]]:
    """Return the options of a channel; `extra` wins over the defaults."""
    options: dict[str, str | int] = {
        "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
        "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
        # A video is silent for minutes, and so is a queue: a dead connection must be noticed.
        "grpc.keepalive_time_ms": 30_000,
        # The first is TCP's alone, for a network that is gone; the second for a gate that hangs.
        "grpc.keepalive_timeout_ms": 10_000,
        "grpc.http2.ping_timeout_ms": 10_000,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.max_pings_without_data": 0,
        # This client sends again what may be sent again, by one rule for reads and paid calls.
        "grpc.enable_retries": 0,
        # After a restart of the gate the first second counts: do not wait long to connect again.
        "grpc.initial_reconnect_backoff_ms": 200,
        "grpc.max_reconnect_backoff_ms": 5_000,
        "grpc.service_config": service_config(),
    }
    options.update(extra or {})
    return list(options.items())


def channel_credentials(
    *,
    tls: bool | grpc.ChannelCredentials,
) -> grpc.ChannelCredentials | None:
    """Return the credentials that `tls` means: None is plain text, True the system's roots."""
    if tls is True:
        return grpc.ssl_channel_credentials()
    return None if tls is False else tls


def call_metadata(api_key: str | None) -> Metadata:
    """Return what every call carries: who sends it and, where there is one, the API key.

    None is the key that MEDIAGATE_API_KEY holds, if it does; an empty text is none at all.
    """
    if api_key is None:
        api_key = os.environ.get("MEDIAGATE_API_KEY", "")
    version = importlib.metadata.version("mediagate")
    client = ("mediagate-client", f"python/{version}")
    return (client, ("authorization", f"Bearer {api_key}")) if api_key else (client,)


def check_request_size(request: Message) -> None:
    """Raise RequestTooLarge for what no gate would take, before a byte of it is sent."""
    size = request.ByteSize()
    if size > MAX_MESSAGE_BYTES:
        raise RequestTooLarge(size, MAX_MESSAGE_BYTES)
