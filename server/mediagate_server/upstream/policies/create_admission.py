"""Admission control of creates: circuit breaker, rate limit of the account, and retry delay.

A create is admitted first and sent later, with the durable commit of the attempt in between: if the
commit came first, the record would say "may have been sent" during the whole wait, and a crash
would leave unconfirmed what was never sent. So `admit` or `try_admit` reserves a slot, then the
caller commits, then `Upstream.create` uses the reservation and sends immediately. An unused one is
released, so that calls which the commit refuses cost others nothing.
"""

from mediagate_server.observability.metrics import OTHER_MODEL
from mediagate_server.upstream.policies.circuit_breaker import CircuitBreaker
from mediagate_server.upstream.policies.create_retry_policy import CreateRetryPolicy
from mediagate_server.upstream.policies.pacing_policy import Pacer
from mediagate_server.upstream.port import CreateReservation, RequestRefused


class CreateAdmission:
    """Admission of creates to one account. For one event loop. Sends nothing itself.

    `model` is the catalog's slug, never what a caller typed.
    """

    def __init__(self, breaker: CircuitBreaker, pacer: Pacer, retry: CreateRetryPolicy) -> None:
        self._breaker = breaker
        self._pacer = pacer
        self._retry = retry

    def try_admit(self, model: str = OTHER_MODEL) -> CreateReservation | None:
        """Reserve a slot for a create if one is free now. Never waits.

        None also where the create would be the probe of a half-open circuit: that is for `admit`,
        when nothing can refuse it any more. Raises CircuitOpen where creates are stopped.
        """
        self._breaker.check(model)
        if self._breaker.is_half_open(model):
            return None
        return self._pacer.try_acquire_create()

    async def admit(self, model: str = OTHER_MODEL, *, again: bool = False) -> CreateReservation:
        """Wait for a slot for a create and reserve it. Raises CircuitOpen before or after the wait.

        `again`: its last create was refused with 429, so it goes first.
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
        """Seconds until upstream allows the next create."""
        return self._pacer.backoff_seconds

    @property
    def creates_per_second(self) -> float | None:
        """The rate that upstream has reduced the account to; None: not reduced."""
        return self._pacer.creates_per_second

    def delay_before_retry(self, refused: RequestRefused, ordinal: int) -> float | None:
        """Seconds until a refused create may be attempted again; None: never.

        `ordinal` is that of the refused attempt, from 1.
        """
        return self._retry.delay_before_retry(refused, ordinal)
