"""The ports of a server that is killed and started again stay its own while it is away."""

import socket

import pytest

from .crashing_process import reserve_ports


def test_the_port_of_a_stopped_server_stays_reserved() -> None:
    (reserved,) = reserve_ports(1)
    with reserved:
        address = reserved.getsockname()
        for _ in range(2):
            socket.create_server(address).close()  # A server listens there, and goes.
            with socket.socket() as other, pytest.raises(OSError, match="already in use"):
                other.bind(address)
    with socket.socket() as other:
        other.bind(address)
