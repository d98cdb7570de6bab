"""The emulator's public face: its settings, its connections, and its life."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Self

from aiohttp import web

from .account import Account
from .answers import as_answerer
from .connections import CountingServer
from .fault_plan import FaultPlan
from .model import EmulatedModel
from .pace import Pace
from .player import Player
from .recorded import Recorded, masked
from .reply import Reply, refusal
from .service import Service
from .wire import WireError, decode_request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from .answers import Answer, Answerer
    from .fault_plan import FaultChooser
    from .faults import Fault
    from .tools import ToolRule

_MAX_BODY: Final = 48 * 1024 * 1024
_TOO_LARGE: Final = 413
_TRACE_BITS: Final = 128


class DeepSeekEmulator:
    """A DeepSeek service on loopback that speaks the real wire.

    It answers chat completions, FIM completions on the beta base, models and
    balance, at the pace of a real service, and fails where it is told to::

        async with DeepSeekEmulator(pace=Pace.instant()) as emulator:
            emulator.answer = "short"
            emulator.script(Status(status=503), Cut(events=2))
            client = AsyncDeepSeek(
                api_key=emulator.api_key, base_url=emulator.base_url
            )

    Args:
        api_key: The key to let in; None lets any key in.
        pace: Latency, speed and queue time of the answers.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        seed: Makes another set of answers, ids and faults; the same seed repeats.
        balance: US dollars of the account.
        charge: Whether completions are paid from the balance.
        concurrency_limit: Completions that may run at once; above it comes a 429.
            None means no limit.
        accept_retired_models: Whether ``deepseek-chat`` and ``deepseek-reasoner``
            still work, so that old examples run.
        record_limit: Requests that `requests` remembers.
        fault: Callable that decides each request's fault.

    Attributes:
        answer: What to answer: text, an `Answer`, or a function of the body.
        tool_rules: `ToolRule`s that make the model call tools.
        fault: Function that decides each request's fault.
        fault_mix: Faults with the probability that each strikes a request.
        account: Key, balance and concurrency; changes apply at once.
        model: The model; its ``cache`` and ``context_length`` can be changed.
        pace: The pace of the answers that begin from now on.
        requests: The newest requests, oldest first.
        balance: US dollars left.
        concurrency_limit: Completions that may run at once; None means no limit.
    """

    def __init__(  # noqa: PLR0913  every setting is a keyword with a default
        self,
        *,
        api_key: str | None = "sk-emulator",
        pace: Pace | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int = 0,
        balance: Decimal | str | float = "110.00",
        charge: bool = False,
        concurrency_limit: int | None = 2500,
        accept_retired_models: bool = True,
        record_limit: int = 10_000,
        fault: FaultChooser | None = None,
    ) -> None:
        self.pace = pace or Pace()
        self.account = Account(
            api_key,
            Decimal(str(balance)),
            charge=charge,
            concurrency_limit=concurrency_limit,
        )
        self.model = EmulatedModel(seed, accept_retired=accept_retired_models)
        self.requests: deque[Recorded] = deque(maxlen=record_limit)
        self._faults = FaultPlan(seed)
        self.fault = fault
        self._service = Service(self.account, self.model, self._faults)
        self._host = host
        self._port = port
        self._rng = random.Random(seed)  # noqa: S311
        self._server: CountingServer | None = None
        self._runner: web.ServerRunner | None = None
        self._live: set[asyncio.Task[Any]] = set()

    # The account and the model in front of the user

    @property
    def api_key(self) -> str:
        """The key that clients should send."""
        return self.account.api_key or "sk-any"

    @property
    def base_url(self) -> str:
        """The service's base URL; append ``/beta`` for beta features.

        Raises:
            RuntimeError: If the emulator is not running.
        """
        if self._runner is None or not self._runner.addresses:
            message = "the emulator is not running: use `async with`"
            raise RuntimeError(message)
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def in_flight(self) -> int:
        """Completions that run now."""
        return self.account.in_flight

    @property
    def peak_in_flight(self) -> int:
        """Most completions that ever ran at once."""
        return self.account.peak_in_flight

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return self._server.open_connections if self._server else 0

    @property
    def connections_opened(self) -> int:
        """Connections that clients have opened since the emulator started."""
        return self._server.connections_opened if self._server else 0

    @property
    def concurrency_limit(self) -> int | None:
        """Completions that may run at once; None means no limit."""
        return self.account.concurrency_limit

    @concurrency_limit.setter
    def concurrency_limit(self, limit: int | None) -> None:
        self.account.concurrency_limit = limit

    @property
    def balance(self) -> Decimal:
        """US dollars left."""
        return self.account.balance

    @balance.setter
    def balance(self, amount: Decimal | str | float) -> None:
        self.account.balance = Decimal(str(amount))

    @property
    def answer(self) -> Answerer | None:
        """What to answer instead of the built-in words.

        Text or an `Answer` is the answer to every request; a function is given the
        body of the request.
        """
        return self.model.answer

    @answer.setter
    def answer(self, answer: Answerer | Answer | str | None) -> None:
        self.model.answer = as_answerer(answer)

    @property
    def tool_rules(self) -> list[ToolRule]:
        """Rules that make the model call tools."""
        return self.model.tool_rules

    # Faults

    def script(self, *faults: Fault) -> None:
        """Queue `faults`: each strikes the next request that it matches.

        Raises:
            TypeError: One is no fault.
        """
        self._faults.add(faults)

    def clear_faults(self) -> None:
        """Forget scripted faults, the fault callable and the mix."""
        self._faults.clear()

    @property
    def faults_left(self) -> int:
        """Scripted strikes that have not happened yet."""
        return self._faults.left

    @property
    def fault(self) -> FaultChooser | None:
        """Callable that decides each request's fault."""
        return self._faults.chooser

    @fault.setter
    def fault(self, chooser: FaultChooser | None) -> None:
        self._faults.choose_with(chooser)

    @property
    def fault_mix(self) -> Mapping[Fault, float]:
        """Faults with the probability that each strikes a request."""
        return self._faults.mix

    @fault_mix.setter
    def fault_mix(self, mix: Mapping[Fault, float]) -> None:
        self._faults.draw_from(mix)

    # Life

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Listen for requests.

        Raises:
            RuntimeError: If the emulator is running already.
            OSError: If the port cannot be had.
        """
        if self._runner is not None:
            message = "the emulator is running already"
            raise RuntimeError(message)
        self._server = CountingServer(self._respond, max_body=_MAX_BODY)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, backlog=2048)
        try:
            await site.start()
        except OSError:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Stop listening and end every answer and connection at once."""
        runner, server = self._runner, self._server
        if runner is None or server is None:
            return
        self._runner = None
        for site in list(runner.sites):
            await site.stop()
        for task in self._live:
            task.cancel()
        await asyncio.gather(*self._live, return_exceptions=True)
        await runner.cleanup()
        await server.all_closed()

    async def serve_forever(
        self, ready: Callable[[DeepSeekEmulator], None] | None = None
    ) -> None:
        """Serve until the task is cancelled.

        Args:
            ready: Called with the emulator once it listens.

        Raises:
            OSError: If the port cannot be had.
        """
        async with self:
            if ready is not None:
                ready(self)
            await asyncio.get_running_loop().create_future()

    async def idle(self) -> None:
        """Wait until no completion is in flight."""
        await self.account.reaches(0, 0)

    async def busy(self, count: int = 1) -> None:
        """Wait until at least `count` completions are in flight."""
        await self.account.reaches(count)

    # Requests

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        if task is not None:
            self._live.add(task)
            task.add_done_callback(self._live.discard)
        trace_id = f"{self._rng.getrandbits(_TRACE_BITS):032x}"
        completes = request.path.endswith("completions")
        if not completes:
            reply = await self._reply(request, trace_id)
            return await self._play(request, reply, trace_id)
        self.account.enter()
        try:
            reply = await self._reply(request, trace_id)
            return await self._play(request, reply, trace_id)
        finally:
            self.account.leave()

    async def _play(
        self, request: web.BaseRequest, reply: Reply, trace_id: str
    ) -> web.StreamResponse:
        reply.headers = {
            "x-ds-trace-id": trace_id,
            "Set-Cookie": f"HWWAFSESTIME={trace_id[:13]}; path=/",
            "Server": "openresty",
            **reply.headers,
        }
        player = Player(request, reply, self.pace, lambda: self.in_flight)
        try:
            sent = await player.play()
        except ConnectionError:
            # The client is gone: nobody is left to answer, and nothing went wrong.
            return web.Response()
        if reply.completed is not None:
            reply.completed()
        return sent

    async def _reply(self, request: web.BaseRequest, trace_id: str) -> Reply:
        """Read and remember `request`, and return the reply to it."""
        try:
            raw = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return refusal(WireError(_TOO_LARGE, "Request body too large"))
        recorded = self._record(request, raw, trace_id)
        return self._service.reply(
            recorded, raw, request.headers.get("Authorization", "")
        )

    def _record(self, request: web.BaseRequest, raw: bytes, trace_id: str) -> Recorded:
        try:
            body = decode_request(raw) if raw else {}
        except WireError:
            body = {}
        recorded = Recorded(
            method=request.method,
            path=request.path,
            headers=masked(request.headers),
            body=body,
            at=asyncio.get_running_loop().time(),
            trace_id=trace_id,
        )
        self.requests.append(recorded)
        return recorded
