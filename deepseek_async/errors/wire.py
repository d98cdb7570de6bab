"""What goes wrong on the wire: connections, clocks, bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .root import DeepSeekError

if TYPE_CHECKING:
    from ..types.chat import ChatCompletion
    from ..types.fim import Completion
    from ..types.meta import Attempt


class APIError(DeepSeekError):
    """Something went wrong on the wire or on the server.

    Attributes:
        request_id: The server's trace id (`x-ds-trace-id`), if a head arrived.
        attempts: Every attempt made for this call, the last one included.
        partial: What a stream had received before the error; `None` elsewhere.
        cause: The transport's own words, or `None`.
    """

    def __init__(
        self,
        message: str,
        *,
        request_id: str | None = None,
        cause: str | None = None,
    ) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.cause = cause
        self.attempts: tuple[Attempt, ...] = ()
        self.partial: ChatCompletion | Completion | None = None

    def __str__(self) -> str:
        notes = [self.message]
        if self.cause:
            notes.append(f"[{self.cause}]")
        if self.request_id:
            notes.append(f"(request id {self.request_id})")
        if len(self.attempts) > 1:
            notes.append(f"(after {len(self.attempts)} attempts)")
        return " ".join(notes)


class APIConnectionError(APIError):
    """The server could not be reached, or the connection failed."""


class ConnectError(APIConnectionError):
    """No connection could be made: name lookup, TCP or TLS. Nothing was sent."""


class ConnectionLostError(APIConnectionError):
    """The connection died after the request had been sent, or while sending it.

    Attributes:
        stale: Whether it was a reused idle connection that gave no reply: most
            likely the server had just closed it. The first such loss of a call is
            followed at once by an attempt on a new connection.
    """

    stale: bool = False


class StreamInterruptedError(ConnectionLostError):
    """A stream ended without `data: [DONE]`: the answer is cut.

    `partial` holds everything that had arrived.
    """


class APITimeoutError(APIConnectionError, TimeoutError):
    """One of the clocks of `Timeouts` ran out.

    Attributes:
        clock: The name of the field of `Timeouts`.
        limit: Its value in seconds.
        bytes_received: Body bytes received in this attempt.
        keep_alives: Keep-alive comments or blank lines received in this attempt.
        payloads: JSON payloads received in this attempt.
    """

    clock = "timeout"

    def __init__(
        self,
        message: str,
        *,
        limit: float,
        bytes_received: int = 0,
        keep_alives: int = 0,
        payloads: int = 0,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.limit = limit
        self.bytes_received = bytes_received
        self.keep_alives = keep_alives
        self.payloads = payloads


class ConnectTimeoutError(APITimeoutError):
    """Name lookup, TCP and TLS took longer than `Timeouts.connect`."""

    clock = "connect"


class ResponseHeadTimeoutError(APITimeoutError):
    """No response head came within `Timeouts.head`."""

    clock = "head"


class FirstPayloadTimeoutError(APITimeoutError):
    """The server kept the request queued for longer than `Timeouts.first_payload`."""

    clock = "first_payload"


class PayloadGapTimeoutError(APITimeoutError):
    """The answer had begun, then no payload came for `Timeouts.payload_gap`."""

    clock = "payload_gap"


class SilenceTimeoutError(APITimeoutError):
    """Not one byte, keep-alives included, came for `Timeouts.silence`."""

    clock = "silence"


class DeadlineExceededError(APITimeoutError):
    """`Timeouts.deadline`, which spans all attempts and the body, has passed."""

    clock = "deadline"


class ResponseDecodeError(APIError):
    """The server answered with success, but the body is not what it should be.

    Attributes:
        status: The HTTP status.
        body: The beginning of the body, at most 2,048 characters.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        body: str = "",
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.status = status
        self.body = body


class EmptyResponseError(ResponseDecodeError):
    """A success status with an empty or blank body (seen under load)."""


class TruncatedResponseError(ResponseDecodeError):
    """The JSON begins well and is cut short: the connection ended too early."""


class UnexpectedContentTypeError(ResponseDecodeError):
    """A success status with HTML or another body that is not the API's."""


class ResponseTooLargeError(ResponseDecodeError):
    """The body (or one event of it) is larger than the client's limit."""
