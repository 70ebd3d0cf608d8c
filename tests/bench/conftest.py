"""What the tests of the bench start: its upstream, as a process of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.control import Control
from bench.processes import Running, python, running


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Running]:
    with running("upstream", python("bench.upstream"), tmp_path) as started:
        yield started


@pytest.fixture
def control(upstream: Running) -> Control:
    return Control(upstream.address)
