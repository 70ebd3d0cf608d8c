"""What h2load says is read to the letter, and what it does not look at is looked at here."""

from pathlib import Path

import pytest

from bench.h2load import LoadResult, Target, connections, frame, load, read
from bench.measurements import Bench, WrongResponse
from bench.server_processes import RunningServer
from bench.upstream_control import UpstreamControl
from bench.upstream_responses import ResponseScript
from mediagate.v1 import text_pb2
from tests.conftest import Require

SAID = """
finished in 250.50ms, 3992.02 req/s, 1.00MB/s
requests: 1000 total, 1000 started, 1000 done, 998 succeeded, 2 failed, 2 errored, 0 timeout
status codes: 998 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 1.00MB (1048576) total, 9.77KB (10004) headers (space savings 90.0%), 976KB (999424) data
"""


def test_the_output_of_h2load_is_read(tmp_path: Path) -> None:
    (tmp_path / "h2load.log").write_text("1\t200\t3000\n2\t200\t1000\n3\t200\t2000\n")
    outcome = read(SAID, tmp_path, cpu=0.1)
    assert (outcome.requests, outcome.failed, outcome.data) == (998, 2, 999_424)
    assert outcome.seconds == pytest.approx(0.2505)
    assert outcome.rate == pytest.approx(998 / 0.2505)
    assert outcome.latencies == (0.001, 0.002, 0.003)
    assert outcome.percentile(0.5) == 0.002
    assert outcome.percentile(0.99) == 0.003


def test_unknown_output_gives_no_figure(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="something else"):
        read("could not connect", tmp_path)


def test_calls_share_connections_evenly() -> None:
    for concurrency in (1, 16, 50, 128, 200, 1_000):
        assert concurrency % connections(concurrency) == 0
        assert connections(concurrency) <= 10
    assert connections(1) == 1
    assert connections(128) == 8


def test_a_frame_is_what_grpc_sends(tmp_path: Path) -> None:
    message = text_pb2.GenerateTextRequest(prompt="x" * 300).SerializeToString()
    written = frame(message, tmp_path / "frame").read_bytes()
    assert written[0] == 0
    assert int.from_bytes(written[1:5], "big") == len(message)
    assert written[5:] == message


def test_load_reaches_the_upstream_the_expected_number_of_times(
    require: Require, control: UpstreamControl, tmp_path: Path
) -> None:
    require("h2load")
    control.follow(ResponseScript(tokens=3))
    body = tmp_path / "body.json"
    body.write_text("{}")
    target = Target(f"{control.url}/v1/models/a/b/predictions", body)
    outcome = load(target, requests=90, concurrency=9, folder=tmp_path)
    assert outcome.requests == control.counts()["creates"] == len(outcome.latencies) == 90
    assert outcome.failed == 0
    assert outcome.latencies == tuple(sorted(outcome.latencies))


@pytest.mark.parametrize(
    ("failed", "data", "wrong"),
    [(0, 490, None), (0, 489, "missing"), (1, 490, "failed")],
)
def test_a_short_or_failed_response_gives_no_figure(
    control: UpstreamControl,
    upstream: RunningServer,
    tmp_path: Path,
    failed: int,
    data: int,
    wrong: str | None,
) -> None:
    script = ResponseScript(tokens=10)
    assert script.text_bytes() == 49
    outcome = LoadResult(10, failed, data, 1.0, 0.5, (0.1,) * 10)
    server = RunningServer("echo", upstream.pid, "", "", 0.0)
    bench = Bench(control, upstream, tmp_path)
    if wrong is None:
        bench.check(server, outcome, script, {}, {})
        return
    with pytest.raises(WrongResponse, match=wrong):
        bench.check(server, outcome, script, {}, {})
