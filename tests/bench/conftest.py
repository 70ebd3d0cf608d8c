"""What the tests of the bench start: its upstream, as a process of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.server_processes import RunningServer, python, running
from bench.upstream_control import UpstreamControl


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[RunningServer]:
    with running("upstream", python("bench.fast_upstream"), tmp_path) as started:
        yield started


@pytest.fixture
def control(upstream: RunningServer) -> UpstreamControl:
    return UpstreamControl(upstream.address)
