"""Ready line: a server of the bench prints its address once it serves."""

import sys


def print_ready_line(port: int) -> None:
    """Say on stderr that the server takes calls on a port of 127.0.0.1."""
    sys.stderr.write(f"serves on 127.0.0.1:{port}\n")
    sys.stderr.flush()
