"""The TCP connections of the gRPC server, which are closed before the server is stopped.

A gRPC server that is stopped ends every call that it has not taken yet as CANCELLED (grpc/grpc
#41785), and so each that is on its way until the client has read GOAWAY. A caller takes that for
somebody's wish, and no retry policy sends it again. gRPC has nothing that only says GOAWAY. A call
whose connection is closed ends as UNAVAILABLE, as in any other fault of the network.
"""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Final

_DESCRIPTORS: Final = "/dev/fd"


def count_connections(address: str) -> int:
    """How many there are to HOST:PORT or `unix:/path`, where this process listens."""
    number = 0
    for one in _connected_at(address):
        one.close()
        number += 1
    return number


def close_connections(address: str) -> None:
    """Close all of them, both ways: nothing that comes is read, and nothing is written."""
    for one in _connected_at(address):
        with closing(one), suppress(OSError):  # It may have ended meanwhile.
            one.shutdown(socket.SHUT_RDWR)


def _connected_at(address: str) -> Iterator[socket.socket]:
    """Duplicates of this process's connected sockets whose own end is the address."""
    path = address.removeprefix("unix:") if address.startswith("unix:") else ""
    port = 0 if path else int(address.rpartition(":")[2])
    for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208 - names are all that is wanted
        with suppress(OSError):  # It was closed meanwhile, such as the one that lists them.
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            found = socket.socket(fileno=os.dup(int(name)))
            if _is_connected_at(found, path, port):
                yield found
            else:
                found.close()


def _is_connected_at(found: socket.socket, path: str, port: int) -> bool:
    is_stream = found.type == socket.SOCK_STREAM
    if not is_stream or found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    bound = found.getsockname()
    if found.family in (socket.AF_INET, socket.AF_INET6):
        return bool(port) and bound[1] == port
    return bool(path) and bound == path
