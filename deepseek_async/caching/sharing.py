"""Identical requests answered once: from the cache, or by one call for all of them."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import threading
import warnings
import weakref
from collections.abc import Awaitable, Callable, Hashable
from typing import (
    Any,
    Final,
    Generic,
    Literal,
    TypeAlias,
    TypeGuard,
    TypeVar,
    cast,
    get_args,
)

import msgspec

from ..codec import CHAT, Codec
from ..errors import (
    DeadlineExceededError,
    DeepSeekError,
    DeepSeekWarning,
    InvalidRequestError,
)
from ..metering import Charge, UsageMeter
from ..request import WireRequest
from ..streaming import ChatStream
from ..timeouts import deadline_error
from ..types.chat import ChatCompletion
from ..types.fim import Completion
from ..types.meta import ResponseMeta
from .replay import Tape, TapeStream
from .store import ResponseCache, encode_answer, pack, unpack
from .terms import ENDLESS, Deadline, Terms

A = TypeVar("A", bound=ChatCompletion | Completion)
K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

CacheControl: TypeAlias = Literal["default", "bypass", "refresh"]
"""What one call wants of the client's cache.

`default`: an answer from it, else one for it. `bypass`: nothing to do with it.
`refresh`: a new answer, for it.
"""

_encoder: Final = msgspec.json.Encoder(order="sorted")

_PATIENCE: Final = 0.25
"""Seconds that an answer waits to be kept; it is handed out meanwhile."""

_LOOK_UP: Final = 1.0
"""Seconds for which a cache is asked before the server is."""


def check_control(control: object) -> CacheControl:
    """Check a call's `cache_control`; `None` is the same as `default`.

    Raises:
        InvalidRequestError: It is no `CacheControl`.
    """
    if control is None:
        return "default"
    known: tuple[CacheControl, ...] = get_args(CacheControl)
    for name in known:
        if control == name:
            return name
    message = "cache_control must be 'default', 'bypass' or 'refresh'"
    raise InvalidRequestError(message, param="cache_control")


def key_of(request: WireRequest, base_url: str, scope: str) -> str:
    """The key of a request's answer; the API key has no part in it.

    Args:
        request: The request. Whether it streams makes no difference.
        base_url: Where it goes.
        scope: The cache's scope.
    """
    body: dict[str, Any] = msgspec.json.decode(request.body)
    body.pop("stream", None)
    body.pop("stream_options", None)
    headers = {name.lower(): text for name, text in (request.headers or {}).items()}
    about = base_url, request.path, request.beta, scope, headers, body
    return hashlib.sha256(_encoder.encode(about)).hexdigest()


class _Landed(Generic[A]):
    """An answer, and its JSON as it came: the answer is its first receiver's own."""

    __slots__ = ("answer", "encoded", "meta")

    def __init__(self, answer: A) -> None:
        self.answer = answer
        self.encoded = encode_answer(answer)
        self.meta = answer.meta


class _Flight(Generic[A]):
    """One call on the wire, with everyone who waits for its answer.

    The call runs in a task of its own, so that whoever began it may be cancelled;
    it ends when nobody waits any more.
    """

    def __init__(
        self, ask: Callable[[], Awaitable[_Landed[A]]], forget: Callable[[], None]
    ) -> None:
        self._waiting = 0
        self._task: asyncio.Task[_Landed[A]] = asyncio.ensure_future(self._run(ask))
        self._task.add_done_callback(_retrieve)
        self._task.add_done_callback(lambda _: forget())

    async def _run(self, ask: Callable[[], Awaitable[_Landed[A]]]) -> _Landed[A]:
        return await ask()

    @property
    def can_be_joined(self) -> bool:
        """Whether it is under way, and somebody waits for it."""
        return not self._task.done() and self._waiting > 0

    async def join(self, deadline: Deadline) -> _Landed[A]:
        """Wait for the answer.

        Args:
            deadline: How long whoever waits will do so.

        Raises:
            DeadlineExceededError: The deadline has passed.
            DeepSeekError: The call failed.
        """
        self._waiting += 1
        try:
            await asyncio.wait([self._task], timeout=deadline.left())
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._task.cancel()
        if not self._task.done() and deadline.limit is not None:
            raise deadline_error(deadline.limit)
        return self._task.result()


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Look at an exception that nobody may have waited for."""
    if not task.cancelled():
        task.exception()


class _UnderWay:
    """What is on the wire in one event loop, by key and terms, and being kept."""

    __slots__ = ("__weakref__", "flights", "kept", "tapes", "writing")

    def __init__(self) -> None:
        self.flights: dict[tuple[str, Terms], _Flight[Any]] = {}
        self.tapes: dict[tuple[str, Terms], Tape] = {}
        self.kept: dict[str, bytes] = {}
        self.writing: set[asyncio.Task[None]] = set()


class SharedAnswers:
    """A client's cache, and its calls that others may join.

    Args:
        cache: Where answers are kept.
        meter: The client's meter.
        base_url: Where the client's requests go.
    """

    def __init__(self, cache: ResponseCache, meter: UsageMeter, base_url: str) -> None:
        self._cache = cache
        self._meter = meter
        self._base_url = base_url
        self._lock = threading.Lock()
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _UnderWay] = (
            weakref.WeakKeyDictionary()
        )

    def _under_way(self) -> _UnderWay:
        loop = asyncio.get_running_loop()
        with self._lock:
            return self._loops.setdefault(loop, _UnderWay())

    async def answer(
        self,
        request: WireRequest,
        control: CacheControl,
        codec: Codec[A],
        ask: Callable[[], Awaitable[A]],
        terms: Terms,
    ) -> A:
        """An answer from the cache, or from the wire.

        Args:
            request: The request.
            control: What it wants of the cache.
            codec: Decodes its answer.
            ask: Sends it.
            terms: How it is made.

        Raises:
            DeadlineExceededError: Another's call, which it joined, took too long.
            DeepSeekError: As `ask`.
        """
        key = key_of(request, self._base_url, self._cache.scope)
        if control == "default":
            found = await self._look_up(key, codec)
            if found is not None:
                return self._give(found, request)
        flights = self._under_way().flights
        place = key, terms.without_deadline()
        own, deadline = Deadline(terms.timeouts.deadline), ENDLESS
        while control == "default" and _can_be_joined(flight := flights.get(place)):
            try:
                return await self._follow(flight, request, codec, own)
            except DeadlineExceededError:
                if own.left() == 0:
                    raise
                deadline = own  # it was another's that passed
        begun: _Flight[A] = _Flight(
            lambda: self._ask_and_keep(key, ask), lambda: _drop(flights, place, begun)
        )
        flights[place] = begun
        landed = await begun.join(deadline)  # the call itself has a deadline, too
        return landed.answer

    async def _follow(
        self,
        flight: _Flight[A],
        request: WireRequest,
        codec: Codec[A],
        deadline: Deadline,
    ) -> A:
        try:
            landed = await flight.join(deadline)
        except DeepSeekError as error:
            failure = copy.copy(error)  # a traceback is not to be shared
            failure.so_far = None  # nor is what another one's turn has done
        else:
            # Everyone gets an answer of their own, to do with it what they like.
            own = codec.decode(landed.encoded)
            own.set_meta(landed.meta)
            return self._give(own, request)
        raise failure

    def _give(self, answer: A, request: WireRequest) -> A:
        charge = self._meter.open_free(request.model, request.tag)
        charge.settle(answer.usage)
        answer.set_bill(charge.bill)
        return answer

    async def _look_up(self, key: str, codec: Codec[A]) -> A | None:
        value = self._under_way().kept.get(key) or await self._read(key)
        kept = unpack(value) if value is not None else None
        if kept is None:
            return None
        try:
            answer = codec.decode(bytes(kept.answer))
        except ValueError:
            return None
        answer.set_meta(ResponseMeta(request_id=kept.request_id))
        return answer if is_worth_keeping(answer) else None

    async def _ask_and_keep(
        self, key: str, ask: Callable[[], Awaitable[A]]
    ) -> _Landed[A]:
        landed = _Landed(await ask())
        await self._keep(key, landed)
        return landed

    async def _keep(self, key: str, landed: _Landed[A]) -> None:
        """Keep an answer; a cache that takes its time must not hold it up."""
        if not is_worth_keeping(landed.answer):
            return
        under_way = self._under_way()
        packed = pack(landed.encoded, landed.meta.request_id)
        under_way.kept[key] = packed
        writing = asyncio.create_task(self._write(key, packed))
        under_way.writing.add(writing)
        writing.add_done_callback(under_way.writing.discard)
        writing.add_done_callback(lambda _: _drop(under_way.kept, key, packed))
        writing.add_done_callback(_retrieve)
        await asyncio.wait([writing], timeout=_PATIENCE)

    async def _read(self, key: str) -> bytes | None:
        """What the cache has; nothing if it fails or is slow, for the server has it."""
        try:
            async with asyncio.timeout(_LOOK_UP):
                found = cast("object", await self._cache.get(key))
        except Exception as error:  # noqa: BLE001 - of a store that may be anyone's
            _warn(f"could not be read: {type(error).__name__}")
            return None
        if found is None or isinstance(found, bytes):
            return found  # a store that may be anyone's returns what it likes
        _warn("returned something else than bytes")
        return None

    async def _write(self, key: str, packed: bytes) -> None:
        try:
            await self._cache.set(key, packed)
        except Exception as error:  # noqa: BLE001 - of a store that may be anyone's
            _warn(f"could not be written: {type(error).__name__}")

    async def stream(
        self,
        request: WireRequest,
        control: CacheControl,
        open_stream: Callable[[WireRequest, Charge], Awaitable[ChatStream]],
        terms: Terms,
    ) -> ChatStream:
        """A stream from the cache, or from the wire.

        Args:
            request: The request.
            control: What it wants of the cache.
            open_stream: Sends it.
            terms: How it is made.

        Raises:
            DeepSeekError: As `open_stream`.
        """
        key = key_of(request, self._base_url, self._cache.scope)
        free = self._meter.open_free(request.model, request.tag)
        if control == "default":
            found = await self._look_up(key, CHAT)
            if found is not None:
                return await _play(Tape.of(found, found.meta), free, None)
        tapes = self._under_way().tapes
        shared = terms.without_deadline()
        place, deadline = (key, shared), terms.timeouts.deadline
        tape = tapes.get(place)
        if control == "default" and tape is not None and tape.is_playing:
            return await _play(tape, free, deadline)
        charge = self._meter.open(request.model, request.tag)
        asked = copy.copy(request)
        asked.timeouts = shared.timeouts  # each listener has a deadline of its own
        tape = tapes[place] = Tape()
        tape.record(
            lambda: open_stream(asked, charge),
            lambda answer: self._keep(key, _Landed(answer)),
            lambda: _drop(tapes, place, tape),
        )
        return await _play(tape, charge.receipt(), deadline)


def _can_be_joined(flight: _Flight[A] | None) -> TypeGuard[_Flight[A]]:
    return flight is not None and flight.can_be_joined


def _warn(problem: str) -> None:
    warnings.warn(f"the response cache {problem}", DeepSeekWarning, stacklevel=1)


def _drop(table: dict[K, T], key: K, item: T) -> None:
    """Forget an item, unless another has taken its place."""
    if table.get(key) is item:
        del table[key]


async def _play(tape: Tape, charge: Charge, deadline: float | None) -> TapeStream:
    tape.join()
    stream = TapeStream(tape, charge, deadline)
    try:
        await stream.opened()
    except BaseException:
        stream.abort()
        raise
    return stream


def is_worth_keeping(answer: ChatCompletion | Completion) -> bool:
    """Whether an answer is whole: the model came to an end of its own."""
    if isinstance(answer, ChatCompletion):
        return answer.is_finished and not answer.is_empty
    return answer.finish_reason == "stop"
