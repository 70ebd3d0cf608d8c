"""Options of the gRPC server, and its listening address."""

import errno
import socket
from typing import Any, Final

import grpc

from mediagate_server.config import Settings
from mediagate_server.config.address import explain_listen_error, split_address

_MAX_PENDING: Final = 16_000
# Each figure was chosen by trying to break a server with it. More streams a connection let one peer
# crowd out another's calls. A longer ping interval cuts clients that keep a silent stream alive: it
# is half of the shortest that clients have (10 s), for pings that the network has moved together;
# gRPC counts those for as long as a stream is silent, and the third is one too many. Sharing the
# port would let a second process take half of the calls unnoticed. Left to guess a
# connection's capacity, gRPC buffers 12 MB of a fast upload; half a MiB does as well.
#
# A peer whose network is gone is noticed by the keepalive timeout, which is TCP's alone
# (TCP_USER_TIMEOUT); one that stands still, and whose kernel goes on answering, by the ping's.
#
# A burst of calls waits for the event loop inside gRPC, which by default begins to drop them at a
# thousand, as CANCELLED and unseen by any handler; all streams of 32 connections may wait here.
# A stream that has ended counts until its memory is freed, lest a flood of resets grows without
# bound; without room for those beside the open ones, gRPC refuses calls of well-behaved clients in
# a burst over one connection. All of them may wait ahead of others' calls of the same method.
_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.max_concurrent_streams", 500),
    ("grpc.http2.max_deallocating_streams", 100),
    ("grpc.server.max_pending_requests", _MAX_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.max_send_message_length", 16 * 1024 * 1024),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 512 * 1024),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.max_connection_idle_ms", 15 * 60_000),
    ("grpc.so_reuseport", 0),
)


def server_options(settings: Settings) -> tuple[tuple[str, Any], ...]:
    """Options of the gRPC server."""
    return (
        *_OPTIONS,
        ("grpc.max_connection_age_ms", round(1000 * settings.connection_age)),
        ("grpc.max_connection_age_grace_ms", round(1000 * settings.connection_grace)),
    )


def listen(server: grpc.aio.Server, address: str) -> str:
    """Listen on an address; returns it with the port in use. Raises ListenError."""
    if address.startswith("unix:"):
        server.add_insecure_port(address)
        return address
    with explain_listen_error("grpc_address", address):
        _check_address_is_free(*split_address(address))
        try:
            port = server.add_insecure_port(address)
        except RuntimeError:
            raise OSError("gRPC cannot listen there") from None
    return f"{address.rpartition(':')[0]}:{port}"


def _check_address_is_free(host: str, port: int) -> None:
    """Raise the system's own error where it is one that gRPC would not tell: it says nothing."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise
