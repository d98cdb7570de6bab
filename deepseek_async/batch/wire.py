"""What a batch needs of a client: sending once, and knowing what else is under way."""

from __future__ import annotations

from functools import partial
from typing import Protocol
from urllib.parse import urlsplit

from ..call import fetch
from ..codec import CHAT
from ..errors import DeepSeekError
from ..metering import UsageMeter
from ..redaction import Redaction
from ..request import WireRequest
from ..retry import RetryPolicy
from ..session import SessionManager
from ..timeouts import Timeouts
from ..types.chat import ChatCompletion
from .options import PATIENT
from .outcome import may_be_billed


class Wire(Protocol):
    """Sends requests, each once.

    Attributes:
        timeouts: The clocks of requests that bring none.
        retry: The retry policy of requests that bring none.
        most: The most requests it takes at once.
        endpoint: Where it sends them, for the journal's fingerprint.
    """

    timeouts: Timeouts
    retry: RetryPolicy
    most: int
    endpoint: str

    async def send(self, request: WireRequest) -> ChatCompletion:
        """Send a request once and return the answer.

        Raises:
            DeepSeekError: There was none.
        """
        ...

    def other_calls(self) -> int:
        """Calls that are of no batch: on the wire, or waiting for it."""
        ...


class ClientWire:
    """The wire of a client.

    Args:
        manager: The client's session manager.
        meter: Counts tokens and money, and refuses calls above its limit.
        redaction: The client's redactors.
    """

    def __init__(
        self,
        manager: SessionManager,
        meter: UsageMeter,
        redaction: Redaction | None = None,
    ) -> None:
        self.timeouts = manager.timeouts
        # The default policy is one for somebody who waits; a batch has time.
        self.retry = PATIENT if manager.retry == RetryPolicy() else manager.retry
        self.most = manager.max_connections
        self.endpoint = _endpoint(manager.base_url.plain)
        self._manager = manager
        self._meter = meter
        self._redaction = redaction

    async def send(self, request: WireRequest) -> ChatCompletion:
        """See `Wire`."""
        if self._redaction is None:
            return await self._send(request)
        hidden, vault = await self._redaction.hide(request)
        completion = await self._send(hidden)
        await self._redaction.show(completion, hidden, vault)
        return completion

    async def _send(self, request: WireRequest) -> ChatCompletion:
        charge = self._meter.open(request.model, request.tag)
        try:
            room = await self._manager.room()
            completion = await room.take(
                partial(fetch, self._manager, request, CHAT, is_complete=_has_choices)
            )
        except DeepSeekError as error:
            if may_be_billed(error):
                charge.settle(None)
            raise
        charge.settle(completion.usage)
        completion.set_bill(charge.bill)
        return completion

    def other_calls(self) -> int:
        """See `Wire`."""
        return self._manager.calls_of_no_batch


def _endpoint(url: str) -> str:
    """The base URL; emulators and tunnels on this machine change their port."""
    host = urlsplit(url).hostname or ""
    is_here = host in {"localhost", "127.0.0.1", "::1"}
    return f"loopback {urlsplit(url).path}" if is_here else url


def _has_choices(answer: ChatCompletion) -> bool:
    return bool(answer.choices)
