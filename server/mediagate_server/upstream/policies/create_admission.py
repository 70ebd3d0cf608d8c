"""Admission control of creates: circuit breaker, rate of the account, and when to try again.

A create is admitted first and sent later. Between the two lies the durable commit that makes the
attempt: had the commit come first, the record would say "may have been sent" all the while it
waited for its turn, and a crash would leave in doubt what was never sent; were the wait inside
`create`, there would be no other order. So `admit` or `try_admit` reserves a turn, then the caller
commits, then `Upstream.create` uses the turn and sends at once. A turn that is not used is given
back, as if nobody had ever asked: callers whom the commit refuses cost others nothing.
"""

from mediagate_server.observability.metrics import OTHER_MODEL
from mediagate_server.upstream.policies.circuit_breaker import CircuitBreaker
from mediagate_server.upstream.policies.pacer import Pacer
from mediagate_server.upstream.policies.retry import CreateRetryPolicy
from mediagate_server.upstream.port import CreateReservation, RequestRefused


class CreateAdmission:
    """Who may send a create to one account now. For one event loop. Sends nothing itself.

    `model` is the catalog's slug, never what a caller typed.
    """

    def __init__(self, breaker: CircuitBreaker, pacer: Pacer, retry: CreateRetryPolicy) -> None:
        self._breaker = breaker
        self._pacer = pacer
        self._retry = retry

    def try_admit(self, model: str = OTHER_MODEL) -> CreateReservation | None:
        """Reserve a create's turn if one is free now. Never waits.

        None also where the create would be the probe of a half-open circuit: that is for `admit`,
        when nothing can refuse it any more. CircuitOpen where the model's creates are stopped.
        """
        self._breaker.check(model)
        if self._breaker.is_half_open(model):
            return None
        return self._pacer.try_acquire_create()

    async def admit(self, model: str = OTHER_MODEL, *, again: bool = False) -> CreateReservation:
        """Wait for a create's turn and reserve it. CircuitOpen at once, or after the wait.

        `again`: for a call whose last create upstream's own limit has refused.
        """
        self._breaker.check(model)
        turn = await self._pacer.acquire_create(again=again)
        try:
            lease = self._breaker.admit(model)
        except BaseException:
            turn.release()
            raise

        def release() -> None:
            turn.release()
            self._breaker.release(model, lease)

        return CreateReservation(turn.use, release, turn.release_unused)

    @property
    def backoff_seconds(self) -> float:
        """Until the wait that upstream has asked for before the next create is over."""
        return self._pacer.backoff_seconds

    @property
    def creates_per_second(self) -> float | None:
        """What upstream has reduced the account to; None: nothing of the kind."""
        return self._pacer.creates_per_second

    def delay_before_retry(self, refused: RequestRefused, ordinal: int) -> float | None:
        """Seconds until a refused create may be attempted anew; None: never.

        `ordinal` is that of the attempt that was refused, from 1.
        """
        return self._retry.delay_before_retry(refused, ordinal)
