"""The clocks of a call.

One number cannot tell a server that queues from one that is dead, so each phase has
a clock of its own. Keep-alives (`: keep-alive` comments in a stream, blank lines
before a JSON body) prove the connection alive and wind the `silence` clock only;
they never prolong the wait for content.

https://api-docs.deepseek.com/quick_start/rate_limit
"""

from __future__ import annotations

import math
from typing import Final

from msgspec import Struct

from .errors import (
    APITimeoutError,
    ConfigurationError,
    ConnectTimeoutError,
    DeadlineExceededError,
    FirstPayloadTimeoutError,
    PayloadGapTimeoutError,
    ResponseHeadTimeoutError,
    SilenceTimeoutError,
)


class Timeouts(Struct, kw_only=True, frozen=True):
    """Limits in seconds; `None` switches a clock off.

    No clock is multiplied by retries: each attempt gets fresh ones, and `deadline`
    spans all of them. Time in the client's own queue for a connection counts towards
    `deadline` only. While the reader of a stream is busy elsewhere, only `deadline`
    runs.

    Attributes:
        connect: Name lookup, TCP and TLS.
        head: From a connection to the status line and headers.
        first_payload: From the head to the first JSON. The server may keep a request
            queued for ten minutes before it gives up by itself, hence the default.
        payload_gap: Between two payloads of a stream.
        silence: Without a single byte, keep-alives included.
        deadline: From the call to the last byte, all attempts together.
    """

    connect: float | None = 10.0
    head: float | None = 300.0
    first_payload: float | None = 660.0
    payload_gap: float | None = 180.0
    silence: float | None = 300.0
    deadline: float | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is None:
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or math.isnan(value) or value <= 0:
                message = f"Timeouts.{name} must be a positive number or None"
                raise ConfigurationError(message)

    @classmethod
    def uniform(cls, seconds: float | None) -> Timeouts:
        """The same limit for every wait on the server, and no deadline.

        Args:
            seconds: The limit, or `None` for no clock but `connect`.

        Returns:
            What a single `timeout=` number means elsewhere: a limit on each wait.
        """
        if seconds is not None and not 0 < seconds < math.inf:
            message = "timeout must be a positive number of seconds"
            raise ConfigurationError(message)
        connect = 10.0 if seconds is None else min(seconds, 10.0)
        return cls(
            connect=connect,
            head=seconds,
            first_payload=seconds,
            payload_gap=seconds,
            silence=seconds,
        )


NEVER: Final = math.inf


def _or_never(limit: float | None) -> float:
    return NEVER if limit is None else limit


class BodyClock:
    """Tells when the body of one response is overdue. Pure arithmetic on times.

    The reader says when it begins to wait and what arrived; a timer asks `due()`.

    Args:
        timeouts: The limits.
        deadline_at: The loop time of the overall deadline, or infinity.
    """

    __slots__ = (
        "_bytes_at",
        "_payload_wait_from",
        "bytes_received",
        "deadline_at",
        "keep_alives",
        "payloads",
        "timeouts",
        "waiting",
    )

    def __init__(self, timeouts: Timeouts, deadline_at: float = NEVER) -> None:
        self.timeouts = timeouts
        self.deadline_at = deadline_at
        self._bytes_at = 0.0
        self._payload_wait_from = NEVER
        self.waiting = False
        self.payloads = 0
        self.keep_alives = 0
        self.bytes_received = 0

    @property
    def smallest(self) -> float:
        """The shortest limit of all, in seconds."""
        limits = self.timeouts
        every = limits.first_payload, limits.payload_gap, limits.silence
        return min(map(_or_never, every))

    def wait(self, now: float) -> None:
        """The reader begins to wait for bytes."""
        self.waiting = True
        self._bytes_at = now
        if self._payload_wait_from == NEVER:
            self._payload_wait_from = now

    def received(self, size: int) -> None:
        """Bytes have arrived, or the end: nobody waits until the next `wait`."""
        self.waiting = False
        self.bytes_received += size

    def paid(self, payloads: int) -> None:
        """Payloads have been found among the bytes."""
        self.payloads += payloads
        self._payload_wait_from = NEVER

    def waited(self, now: float) -> float:
        """Seconds the reader has been waiting for the next payload."""
        return (
            0.0 if self._payload_wait_from == NEVER else now - self._payload_wait_from
        )

    def due(self) -> tuple[float, str]:
        """When a clock runs out if nothing more arrives, and which one.

        Returns:
            The loop time (infinity for never) and the name of the clock.
        """
        first = self.deadline_at, "deadline"
        if not self.waiting:
            return first
        clock = "payload_gap" if self.payloads else "first_payload"
        limit = _or_never(getattr(self.timeouts, clock))
        silence = self._bytes_at + _or_never(self.timeouts.silence), "silence"
        return min(first, silence, (self._payload_wait_from + limit, clock))

    def error(self, clock: str, request_id: str | None) -> APITimeoutError:
        """The exception for a clock that ran out."""
        cls, text = _BODY_ERRORS[clock]
        limit = _or_never(getattr(self.timeouts, clock))
        queued = (
            f"{self.keep_alives} keep-alives" if self.keep_alives else "no keep-alive"
        )
        return cls(
            f"{text} within {limit:g} s ({self.bytes_received} bytes, {queued}, "
            f"{self.payloads} payloads received); see Timeouts.{clock}",
            limit=limit,
            bytes_received=self.bytes_received,
            keep_alives=self.keep_alives,
            payloads=self.payloads,
            request_id=request_id,
        )


_BODY_ERRORS: Final[dict[str, tuple[type[APITimeoutError], str]]] = {
    "first_payload": (FirstPayloadTimeoutError, "no content came"),
    "payload_gap": (PayloadGapTimeoutError, "no further content came"),
    "silence": (SilenceTimeoutError, "not one byte came"),
    "deadline": (DeadlineExceededError, "the call did not finish"),
}


def connect_error(limit: float) -> APITimeoutError:
    """The exception for a connection that took too long."""
    message = f"no connection within {limit:g} s; see Timeouts.connect"
    return ConnectTimeoutError(message, limit=limit)


def head_error(limit: float) -> APITimeoutError:
    """The exception for a response head that did not come."""
    message = f"no response head within {limit:g} s; see Timeouts.head"
    return ResponseHeadTimeoutError(message, limit=limit)


def deadline_error(limit: float) -> APITimeoutError:
    """The exception for an overall deadline that passed before a body began."""
    message = f"the call did not finish within {limit:g} s; see Timeouts.deadline"
    return DeadlineExceededError(message, limit=limit)
