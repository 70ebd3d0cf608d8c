"""Size of a benchmark run: complete, or quick to see whether a change helped."""

from dataclasses import dataclass

UNARY = (1, 16, 128)
BURST = (1, 50, 200)
PACED = ((50, 0.020, 6.0), (200, 0.010, 3.0))


@dataclass(frozen=True, slots=True)
class RunSize:
    """Rounds of each measurement, and how much there is to one.

    `unary_seconds` is about how long one unary measurement takes; `burst_tokens` is the length of
    a stream's text. `paced` holds streams, seconds from token to token, and seconds in all.
    `stores`: how many generations a small and a large store hold; `unfinished`: how many streams
    are open when its server is killed. `rounds` of a comparison.
    """

    unary_rounds: int = 3
    unary_seconds: float = 2.0
    burst_rounds: int = 3
    paced_rounds: int = 2
    starts: int = 5
    concurrencies: tuple[int, ...] = UNARY
    bursts: tuple[int, ...] = BURST
    burst_tokens: int = 1_000
    paced: tuple[tuple[int, float, float], ...] = PACED
    idle_streams: int = 1_000
    calls_at_once: int = 4_000
    stores: tuple[int, int] = (1_000, 100_000)
    unfinished: int = 100
    rounds: int = 10


FULL = RunSize()
QUICK = RunSize(
    unary_rounds=2,
    unary_seconds=1.0,
    burst_rounds=2,
    paced_rounds=1,
    starts=3,
    concurrencies=(1, 128),
    bursts=(50,),
    paced=PACED[:1],
    stores=(1_000, 10_000),
    rounds=8,
)
