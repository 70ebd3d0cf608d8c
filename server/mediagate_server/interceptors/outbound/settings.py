"""What can be set about the way to one upstream account."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OutboundSettings:
    """The account's rates and when its models count as broken. Times are seconds.

    `creates_per_minute`, `reads_per_minute`: what Replicate grants one account; `reads` is
    everything that is no create. `max_streams`: open at once. `breaker_*`: open at
    `breaker_ratio` failures of at least `breaker_least` requests within `breaker_window`; try again
    after `breaker_pause`.
    """

    creates_per_minute: int = 600
    reads_per_minute: int = 3_000
    max_streams: int = 1_200
    breaker_window: float = 30.0
    breaker_least: int = 20
    breaker_ratio: float = 0.5
    breaker_pause: float = 10.0

    def __post_init__(self) -> None:
        """ValueError for rates that would stop everything."""
        if self.creates_per_minute < 1 or self.reads_per_minute < 1:
            raise ValueError("the rates of an account must be at least 1 a minute")
