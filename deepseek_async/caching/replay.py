"""Answers that several readers share: a tape of chunks, and streams that play it.

A tape is recorded once, from a live stream, in a task of its own: a reader that is
slow or leaves holds up nobody. It lives as long as anyone listens.
"""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from ..accumulate import ChatAccumulator
from ..errors import ClientClosedError, DeepSeekError
from ..metering import Charge
from ..streaming import (
    ChatStream,
    DerivedStream,
    begins_anew,
    mark_shown,
    take_chunks,
)
from ..timeouts import deadline_error
from ..types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    ChoiceLogprobs,
    ChunkChoice,
    Delta,
    FunctionCallDelta,
    ToolCall,
    ToolCallDelta,
)
from ..types.events import Resumed
from ..types.meta import ResponseMeta

_PIECES: Final = r"(?:\s*\S+){1,4}|\s+"
"""A stored answer is replayed in pieces of a few words."""


class Tape:
    """The chunks of one answer, as far as they have come.

    Attributes:
        chunks: The chunks so far.
        takes: How often the answer was begun anew, and with it `chunks`.
        is_done: Whether there will be no more.
        failure: Why not, if the answer broke.
        meta: How the answer came about, once it is whole.
        breaks: The breaks it survived.
        charge: The entry in the meter of the call that is recorded.
    """

    def __init__(self) -> None:
        self.chunks: list[ChatCompletionChunk] = []
        self.takes = 0
        self.is_done = False
        self.failure: DeepSeekError | None = None
        self.meta: ResponseMeta | None = None
        self.breaks: tuple[Resumed, ...] = ()
        self.charge: Charge | None = None
        self._is_opened = False
        self._is_shown = False
        self._live: ChatStream | None = None
        self._listeners = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self._recording: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, completion: ChatCompletion, meta: ResponseMeta) -> Tape:
        """A tape of a whole answer."""
        tape = cls()
        tape.chunks = list(_chunks_of(completion))
        tape.meta = meta
        tape.is_done = tape._is_opened = True
        return tape

    def record(
        self,
        open_stream: Callable[[], Awaitable[ChatStream]],
        keep: Callable[[ChatCompletion], Awaitable[None]],
        forget: Callable[[], None],
    ) -> None:
        """Begin to record.

        Args:
            open_stream: Opens the live stream.
            keep: Takes the whole answer.
            forget: Called when the tape is whole, or never will be.
        """
        self._recording = asyncio.create_task(self._record(open_stream, keep))
        self._recording.add_done_callback(lambda _: forget())

    async def _record(
        self,
        open_stream: Callable[[], Awaitable[ChatStream]],
        keep: Callable[[ChatCompletion], Awaitable[None]],
    ) -> None:
        try:
            async with await open_stream() as stream:
                self._live = stream
                if self._is_shown:
                    mark_shown(stream)
                self._is_opened = True
                self.wake()
                while (chunks := await take_chunks(stream)) is not None:
                    self._note(stream.breaks)
                    self.chunks += chunks
                    self.wake()
                self._note(stream.breaks)
                self.meta = stream.meta
                await keep(await stream.completion())
        except DeepSeekError as error:
            self.failure = error.with_traceback(None)
        finally:
            self._live = None
            if self.meta is None and self.failure is None:
                self.failure = ClientClosedError("the recording was cancelled")
            self.is_done = True
            self.wake()

    def _note(self, breaks: tuple[Resumed, ...]) -> None:
        if begins_anew(breaks[len(self.breaks) :]):
            self.chunks = []
            self.takes += 1
        self.breaks = breaks

    def mark_shown(self) -> None:
        """A listener reads on who could not know that the answer was begun anew."""
        self._is_shown = True
        mark_shown(self._live)

    async def opened(self) -> None:
        """Wait for the response head.

        Raises:
            DeepSeekError: There was none.
        """
        while not self._is_opened and not self.is_done:
            await self.moved()
        if self.failure is not None and not self._is_opened:
            raise self.copy_of_failure(self.failure)

    def copy_of_failure(self, failure: DeepSeekError) -> DeepSeekError:
        """The failure for one of many readers: a traceback is not to be shared."""
        return copy.copy(failure)

    async def moved(self) -> None:
        """Wait until something has happened."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)

    def wake(self) -> None:
        """Tell everyone who waits to look again."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def join(self) -> None:
        """One more listener."""
        self._listeners += 1

    def leave(self) -> None:
        """One listener less; without any, recording ends."""
        self._listeners -= 1
        if not self._listeners and not self.is_done and self._recording is not None:
            self._recording.cancel()

    @property
    def is_playing(self) -> bool:
        """Whether it can be joined: it is being recorded, and somebody listens."""
        return not self.is_done and self._listeners > 0


class TapeStream(DerivedStream):
    """Plays a tape from its beginning, and on as it is recorded.

    Args:
        tape: What to play; the caller has joined it.
        charge: The call's entry in the client's meter.
        deadline: How long all of it may take, in seconds.
    """

    def __init__(
        self, tape: Tape, charge: Charge, deadline: float | None = None
    ) -> None:
        super().__init__(None, charge)
        self._tape = tape
        self._place = 0
        self._take = tape.takes
        self._deadline = deadline
        self._ends_at = None if deadline is None else self._loop.time() + deadline
        self._has_left = False

    @property
    def breaks(self) -> tuple[Resumed, ...]:
        """The times the connection died and the stream went on; see `Resume`."""
        return self._tape.breaks

    async def _more(self, *, heartbeats: bool) -> list[ChatCompletionChunk] | None:  # noqa: ARG002 - a tape has none
        tape = self._tape
        while self._is_played():
            if self._failure is not None:
                raise self._failure
            if tape.failure is not None:
                raise tape.copy_of_failure(tape.failure)
            if tape.is_done:
                return None
            await self._wait(tape.moved())
        chunks = tape.chunks[self._place :]
        self._place = len(tape.chunks)
        return chunks

    def _is_played(self) -> bool:
        """Whether everything there is so far has been played."""
        if self._take != self._tape.takes:
            self._take = self._tape.takes
            self._place = 0
            self._accumulator = ChatAccumulator()
        return self._place >= len(self._tape.chunks)

    async def opened(self) -> None:
        """Wait for the response head.

        Raises:
            DeepSeekError: There was none, or not in time.
        """
        await self._wait(self._tape.opened())

    async def _wait(self, event: Awaitable[None]) -> None:
        clock = asyncio.timeout_at(self._ends_at)
        try:
            async with clock:
                await event
        except TimeoutError:
            if self._deadline is None or not clock.expired():
                raise
        else:
            return
        self._leave()
        raise deadline_error(self._deadline)

    def mark_shown(self) -> None:
        """Someone reads on who could not know that the answer was begun anew."""
        self._tape.mark_shown()

    def _make_meta(self) -> ResponseMeta | None:
        return self._tape.meta

    async def _complete(self) -> None:
        await super()._complete()
        self._leave()

    def _release(self, reason: DeepSeekError) -> None:  # noqa: ARG002 - looked up
        self._leave()
        self._tape.wake()

    def _leave(self) -> None:
        if not self._has_left:
            self._has_left = True
            self._tape.leave()

    def __del__(self) -> None:
        """A stream dropped unread no longer listens."""
        left = getattr(self, "_has_left", True)  # not set if __init__ failed
        if not left and not self._loop.is_closed():
            self._has_left = True
            self._loop.call_soon_threadsafe(self._tape.leave)


# -- a whole answer as chunks ----------------------------------------------------------


def _chunks_of(completion: ChatCompletion) -> Iterator[ChatCompletionChunk]:
    last: ChatCompletionChunk | None = None
    for choice in completion.choices:
        for piece in _pieces(choice):
            last = ChatCompletionChunk(
                id=completion.id,
                created=completion.created,
                model=completion.model,
                system_fingerprint=completion.system_fingerprint,
                choices=[piece],
            )
            yield last
    if last is not None:
        last.usage = completion.usage


def _pieces(choice: Choice) -> Iterator[ChunkChoice]:
    message, index = choice.message, choice.index
    logprobs = choice.logprobs or ChoiceLogprobs()
    first = Delta(role=message.role, extra=dict(message.extra) or None)
    yield ChunkChoice(index=index, delta=first)
    yield from _texts(index, "reasoning_content", message.reasoning_content, logprobs)
    yield from _texts(index, "content", message.content, logprobs)
    for place, call in enumerate(message.tool_calls or ()):
        yield ChunkChoice(
            index=index, delta=Delta(tool_calls=[_whole_call(place, call)])
        )
    last = Delta(title=message.title)
    called = message.function_call
    if called is not None:
        last.function_call = FunctionCallDelta(
            name=called.name, arguments=called.arguments
        )
    yield ChunkChoice(index=index, delta=last, finish_reason=choice.finish_reason)


def _texts(
    index: int, field: str, text: str | None, logprobs: ChoiceLogprobs
) -> Iterator[ChunkChoice]:
    if text is None:
        return
    scores = getattr(logprobs, field)
    for piece in re.findall(_PIECES, text) or [""]:
        delta = Delta()
        setattr(delta, field, piece)
        made = ChunkChoice(index=index, delta=delta)
        if scores:  # all with the first piece: they belong to tokens, not to words
            made.logprobs = ChoiceLogprobs()
            setattr(made.logprobs, field, scores)
            scores = None
        yield made


def _whole_call(place: int, call: ToolCall) -> ToolCallDelta:
    return ToolCallDelta(
        index=place if call.index is None else call.index,
        id=call.id,
        type=call.type,
        function=FunctionCallDelta(
            name=call.function.name, arguments=call.function.arguments
        ),
        extra=dict(call.extra) or None,
    )
