"""gRPC server: options, listening, and closing of its connections before it is stopped.

A gRPC server that is stopped ends every call that it has not taken yet as CANCELLED (grpc/grpc
#41785), and so each that is on its way until the client has read GOAWAY. A caller takes that for
somebody's wish, and no retry policy sends it again. gRPC has nothing that only says GOAWAY. A call
whose connection is closed ends as UNAVAILABLE, as in any other fault of the network.
"""

import ctypes
import errno
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any, Final

import grpc
import structlog

from mediagate_server.config import Settings
from mediagate_server.config.address import explain_listen_error, split_address

_log = structlog.get_logger("mediagate.connections")
_DESCRIPTORS: Final = "/dev/fd"
_SO_ATTACH_FILTER: Final = 26
_DROP_ALL_PACKETS: Final = struct.pack("HBBI", 0x06, 0, 0, 0)
"""A program of the kernel's packet filter (BPF) of one instruction: take no byte of any packet."""


def has_connections(address: str) -> bool:
    """Whether there are connections to HOST:PORT or `unix:/path`, where this process listens.

    True where that is unknown, such as without a descriptor left: whoever may be there is
    better waited for than cut off.
    """
    try:
        for connection in _connected_at(address):
            connection.close()
            return True
    except OSError as error:
        _log.warning("connections_unknown", error=error.strerror)
        return True
    return False


def refuse_connections(address: str) -> None:
    """Refuse new connections, while the server goes on with whoever is connected.

    A client whose connection is closed connects again at once, and would find a server that is
    being stopped. Its packets are dropped by a filter of the listening socket instead: it tries
    until the socket is closed, and is refused then, or finds the next process. To shut down the
    socket would do as well, and gRPC logs an error about that at each orderly end.
    On Linux, of TCP; elsewhere nothing.
    """
    if address.startswith("unix:") or not sys.platform.startswith("linux"):
        return
    program = ctypes.create_string_buffer(_DROP_ALL_PACKETS)
    drop_all = struct.pack("HL", 1, ctypes.addressof(program))
    try:
        for listener in _sockets_at(address, listening=True):
            with closing(listener):
                listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, drop_all)
    except OSError as error:
        _log.warning("connections_not_refused", error=error.strerror)


def close_connections(address: str) -> None:
    """Close all connections, both ways: nothing more is read or written.

    What cannot be closed is left to the end of the server.
    """
    try:
        for connection in _connected_at(address):
            with closing(connection), suppress(OSError):  # It may have ended meanwhile.
                connection.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        _log.warning("connections_not_closed", error=error.strerror)


def _connected_at(address: str) -> Iterator[socket.socket]:
    return _sockets_at(address, listening=False)


def _sockets_at(address: str, *, listening: bool) -> Iterator[socket.socket]:
    """Duplicates of this process's sockets whose own end is the address: those that listen there,
    or those that are connected.

    Raises OSError where they cannot be listed or duplicated.
    """
    path = address.removeprefix("unix:") if address.startswith("unix:") else ""
    port = 0 if path else int(address.rpartition(":")[2])
    for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208 - names are all that is wanted
        candidate = _duplicate(int(name))
        if candidate is None:
            continue
        if _is_at(candidate, path, port, listening=listening):
            yield candidate
        else:
            candidate.close()


def _duplicate(descriptor: int) -> socket.socket | None:
    """A socket's; None of what is no socket, or was closed meanwhile, as the one that lists was."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        copy = os.dup(descriptor)
    except OSError as error:
        if error.errno == errno.EBADF:
            return None
        raise
    try:
        return socket.socket(fileno=copy)
    except OSError:  # Another has the number by now, which is no socket.
        os.close(copy)
        return None


def _is_at(candidate: socket.socket, path: str, port: int, *, listening: bool) -> bool:
    if candidate.type != socket.SOCK_STREAM:
        return False
    if bool(candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)) != listening:
        return False
    bound = candidate.getsockname()
    if candidate.family in (socket.AF_INET, socket.AF_INET6):
        return bool(port) and bound[1] == port
    return bool(path) and bound == path


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
