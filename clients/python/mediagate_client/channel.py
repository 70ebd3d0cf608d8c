"""gRPC channels to the server: options, credentials and metadata, for both clients."""

import importlib.metadata
import importlib.resources
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import grpc
from google.protobuf.message import Message

from mediagate_client.errors import RequestTooLarge, invalid_api_key, local_invalid_request

DEFAULT_TARGET: Final = "127.0.0.1:50051"

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""Largest message, sent or received."""

ChannelType = TypeVar("ChannelType")
Options = Sequence[tuple[str, str | int]]
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Channels(Generic[ChannelType]):
    """Channels of one client, by how long their calls are open.

    A connection has 500 concurrent streams; a 501st rpc waits in the client until one ends. On one
    connection idle streams would block the very call that cancels them.
    """

    billable: ChannelType
    """Billable calls, streams, and files."""
    waits: ChannelType
    """WaitGeneration and WatchGeneration."""
    control: ChannelType
    """Short calls: get, list, cancel, delete, and all other reads."""

    @classmethod
    def shared(cls, channel: ChannelType) -> "Channels[ChannelType]":
        """Return one channel for all, where the caller brings it along."""
        return cls(channel, channel, channel)


SEPARATE_CONNECTION: Final[Mapping[str, str | int]] = {"grpc.use_local_subchannel_pool": 1}
"""Channels with the same target and options share a connection otherwise."""


def service_config() -> str:
    """Return the service config as JSON: balancing, health checks, and retries of reads alone.

    Billable methods are not in it: they may be retried only under one request_id. The retries are
    for other clients: this one retries reads and billable calls by itself.
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
        # The first is TCP's alone, for a network that is gone; the second for a server that hangs.
        "grpc.keepalive_timeout_ms": 10_000,
        "grpc.http2.ping_timeout_ms": 10_000,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.max_pings_without_data": 0,
        # This client sends again what may be sent again, by one rule for reads and billable calls.
        "grpc.enable_retries": 0,
        # After a restart of the server the first second counts: do not wait long to connect again.
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
    """Return the channel credentials; None is plain text. `tls` True: the system's roots."""
    if tls is True:
        return grpc.ssl_channel_credentials()
    if not isinstance(tls, (bool, grpc.ChannelCredentials)):
        raise local_invalid_request("tls", "expected True, False or grpc.ChannelCredentials")
    return None if tls is False else tls


def check_target(target: str) -> None:
    """Raise InvalidRequest for a target that is no address."""
    text: object = target
    # Lone surrogates are not printable.
    if not (isinstance(text, str) and text and text.isprintable()):
        raise local_invalid_request("target", "expected the server's address, such as host:50051")


def call_metadata(api_key: str | None) -> Metadata:
    """Return the metadata of every call: client version and, where there is one, the API key.

    None is the environment variable MEDIAGATE_API_KEY; an empty text is no key. Raises
    Unauthenticated for a key that metadata cannot carry.
    """
    if api_key is None:
        api_key = os.environ.get("MEDIAGATE_API_KEY", "")
    if not isinstance(api_key, str):
        raise invalid_api_key(f"expected a text, not {type(api_key).__name__}")
    if not all(" " < character <= "~" for character in api_key):
        raise invalid_api_key("it has spaces, line ends or other characters that no key has")
    version = importlib.metadata.version("mediagate")
    client = ("mediagate-client", f"python/{version}")
    return (client, ("authorization", f"Bearer {api_key}")) if api_key else (client,)


def check_request_size(request: Message) -> None:
    """Raise RequestTooLarge for a message over the limit, before a byte of it is sent."""
    size = request.ByteSize()
    if size > MAX_MESSAGE_BYTES:
        raise RequestTooLarge(size, MAX_MESSAGE_BYTES)
