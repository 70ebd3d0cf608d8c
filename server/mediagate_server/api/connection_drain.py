"""Draining of connections: no new ones, and those that are idle closed, before the server stops.

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
from typing import Final

import structlog

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
