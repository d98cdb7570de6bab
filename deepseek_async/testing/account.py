"""The account behind the key: who may ask, how much is left, how many at a time."""

from __future__ import annotations

import asyncio
import hmac
from decimal import Decimal
from math import inf
from typing import TYPE_CHECKING, Final

from .wire import NO_BALANCE, TOO_MANY_REQUESTS, UNAUTHORIZED, Body, WireError

if TYPE_CHECKING:
    from .catalogue import Model

_CENT: Final = Decimal("0.01")
_SHOWN: Final = 4


class Account:
    """Key, money and concurrency of one account.

    Attributes:
        api_key: The key that is let in; None lets any key in.
        balance: US dollars left; at 0 or below every completion is refused.
        granted: The part of the balance that was granted, which is spent first.
        charge: Whether completions are paid from the balance.
        concurrency_limit: Requests that may run at once; None means no limit.
        in_flight: Completions that run now.
        peak_in_flight: Most completions that ever ran at once.
    """

    __slots__ = (
        "_waiters",
        "api_key",
        "balance",
        "charge",
        "concurrency_limit",
        "granted",
        "in_flight",
        "peak_in_flight",
    )

    def __init__(
        self,
        api_key: str | None,
        balance: Decimal,
        *,
        charge: bool,
        concurrency_limit: int | None,
    ) -> None:
        self.api_key = api_key
        self.balance = balance
        self.granted = min(balance, Decimal(10))
        self.charge = charge
        self.concurrency_limit = concurrency_limit
        self.in_flight = 0
        self.peak_in_flight = 0
        self._waiters: list[asyncio.Future[None]] = []

    def authenticate(self, authorization: str) -> None:
        """Check the ``Authorization`` header.

        Raises:
            WireError: 401 without the right key.
        """
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise WireError(UNAUTHORIZED)
        wanted = self.api_key
        if wanted is None or hmac.compare_digest(key.encode(), wanted.encode()):
            return
        message = f"Authentication Fails, Your api key: ****{key[-_SHOWN:]} is invalid"
        raise WireError(UNAUTHORIZED, message)

    def admit(self) -> None:
        """Check that a completion may run; the caller has counted it as in flight.

        Raises:
            WireError: 402 without money, 429 above the concurrency limit.
        """
        if self.balance <= 0:
            raise WireError(NO_BALANCE)
        limit = self.concurrency_limit
        if limit is not None and self.in_flight > limit:
            message = (
                "Too many requests. Your current concurrency is "
                f"{self.in_flight}, which exceeds your concurrency limit of {limit} "
                "based on your remaining balance. Please top up."
            )
            raise WireError(TOO_MANY_REQUESTS, message)

    def enter(self) -> None:
        """Count a completion as in flight."""
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        self._wake()

    def leave(self) -> None:
        """Count a completion as over."""
        self.in_flight -= 1
        self._wake()

    async def reaches(self, low: int, high: float = inf) -> None:
        """Wait until the number in flight is at least `low` and at most `high`."""
        while not low <= self.in_flight <= high:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def pay(self, model: Model, usage: Body) -> None:
        """Take the price of an answer from the balance."""
        if self.charge:
            cost = model.cost(usage)
            self.balance -= cost
            self.granted = max(self.granted - cost, Decimal())

    def statement(self) -> Body:
        """Return the answer of ``GET /user/balance``; amounts are strings."""
        total = max(self.balance, Decimal())
        granted = min(self.granted, total)
        info = {
            "currency": "USD",
            "total_balance": str(total.quantize(_CENT)),
            "granted_balance": str(granted.quantize(_CENT)),
            "topped_up_balance": str((total - granted).quantize(_CENT)),
        }
        return {"is_available": self.balance > 0, "balance_infos": [info]}
