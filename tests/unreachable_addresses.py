"""Addresses on loopback that cannot be reached: refused connections, dropped ones, silent peers."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def refused() -> Iterator[str]:
    """Where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def silent() -> Iterator[str]:
    """Where connections come about, and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def black_hole() -> Iterator[str]:
    """Where no connection comes about, and none is refused: nobody takes any out of the queue."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        queue = [socket.socket() for _ in range(8)]
        for queued in queue:
            queued.settimeout(0)
            queued.connect_ex(listening.getsockname())
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        for queued in queue:
            queued.close()
