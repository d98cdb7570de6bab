"""The endpoints: one short method each."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, Literal, TypeVar, Unpack, overload
from urllib.parse import quote

from .caching import CacheControl, SharedAnswers, Terms, check_control
from .call import Call, fetch
from .codec import BALANCE, CHAT, FIM, MODEL, MODELS, Codec
from .errors import DeepSeekError, InvalidRequestError
from .metering import Charge, UsageMeter
from .params import CallOptions, ChatCompletionParams, CompletionParams
from .redaction import RedactedStream, Redaction
from .request import WireRequest, chat_request, fim_request, get_request
from .resume import Resume, ResumingStream
from .session import SessionManager
from .streaming import (
    ChatStream,
    CompletionStream,
    LiveChatStream,
    LiveCompletionStream,
)
from .types.account import Balance, Model, ModelList
from .types.chat import ChatCompletion
from .types.fim import Completion

A = TypeVar("A", ChatCompletion, Completion)
M = TypeVar("M")


def accepted(made: M | DeepSeekError) -> M:
    """What was made, unless it is the error that made it impossible.

    Raises:
        DeepSeekError: It is.
    """
    if isinstance(made, DeepSeekError):
        raise made
    return made


class _Answers:
    """What the endpoints that generate have in common.

    Args:
        manager: Sends the requests.
        meter: Counts tokens and money.
        shared: The client's response cache, if it has one.
        redaction: The client's redactors, if it has any.
    """

    __slots__ = ("_manager", "_meter", "_redaction", "_shared")

    def __init__(
        self,
        manager: SessionManager,
        meter: UsageMeter,
        shared: SharedAnswers | None = None,
        redaction: Redaction | None = None,
    ) -> None:
        self._manager = manager
        self._meter = meter
        self._shared = shared
        self._redaction = redaction

    async def _answer(
        self, request: WireRequest, control: CacheControl, codec: Codec[A]
    ) -> A:
        if self._redaction is None:
            return await self._plain_answer(request, control, codec)
        hidden, vault = await self._redaction.hide(request)
        answer = await self._plain_answer(hidden, control, codec)
        await self._redaction.show(answer, hidden, vault)
        return answer

    async def _plain_answer(
        self, request: WireRequest, control: CacheControl, codec: Codec[A]
    ) -> A:
        if self._shared is None or control == "bypass":
            return await _fetch(self._manager, self._meter, request, codec)
        return await self._shared.answer(
            request,
            control,
            codec,
            lambda: _fetch(self._manager, self._meter, request, codec),
            self._terms(request),
        )

    def _terms(self, request: WireRequest, resume: Resume | None = None) -> Terms:
        """How a request is to be made: only calls on the same terms are shared."""
        return Terms(
            timeouts=request.timeouts or self._manager.timeouts,
            retry=request.retry or self._manager.retry,
            resume=resume,
        )


class ChatCompletions(_Answers):
    """`client.chat.completions`."""

    __slots__ = ()

    @overload
    async def create(
        self, *, stream: Literal[True], **params: Unpack[ChatCompletionParams]
    ) -> ChatStream: ...
    @overload
    async def create(
        self,
        *,
        stream: Literal[False] | None = None,
        **params: Unpack[ChatCompletionParams],
    ) -> ChatCompletion: ...
    @overload
    async def create(
        self, *, stream: bool, **params: Unpack[ChatCompletionParams]
    ) -> ChatCompletion | ChatStream: ...
    async def create(
        self, *, stream: bool | None = None, **params: Unpack[ChatCompletionParams]
    ) -> ChatCompletion | ChatStream:
        """Answer a conversation.

        https://api-docs.deepseek.com/api/create-chat-completion

        Args:
            stream: Whether to return a stream, opened but unread, instead of the
                whole answer.
            **params: See `ChatCompletionParams`. A prefix message or a strict tool
                sends the request to the beta path by itself.

        Returns:
            The completion, or with `stream=True` a `ChatStream`.

        Raises:
            InvalidRequestError: A parameter is wrong; nothing was sent.
            SpendLimitError: The client's spend limit is used up; nothing was sent.
            APIStatusError: The server refused.
            APIConnectionError: The server could not be reached, or went away.
            APITimeoutError: A clock of `Timeouts` ran out.
            ResponseDecodeError: The server's answer makes no sense.
            ClientClosedError: The client is closed.
        """
        given_resume = params.pop("resume", None)
        given_control = params.pop("cache_control", None)
        made = chat_request({**params, "stream": stream})
        del params  # no frame of a traceback may show the prompt
        request = accepted(made)
        resume = _resume(given_resume, stream=stream)
        control = check_control(given_control)
        if not request.stream:
            if self._redaction is None and self._shared is None:
                return await _fetch(self._manager, self._meter, request, CHAT)
            return await self._answer(request, control, CHAT)
        if self._redaction is None:
            return await self._stream(request, control, resume)
        hidden, vault = await self._redaction.hide(request)
        source = await self._stream(hidden, control, resume)
        return RedactedStream(source, self._redaction, hidden, vault)

    async def _stream(
        self, request: WireRequest, control: CacheControl, resume: Resume | None
    ) -> ChatStream:
        if self._shared is None or control == "bypass":
            charge = self._meter.open(request.model, request.tag)
            return await self._open(request, charge, resume)
        return await self._shared.stream(
            request,
            control,
            lambda asked, charge: self._open(asked, charge, resume),
            self._terms(request, resume),
        )

    async def _open(
        self, request: WireRequest, charge: Charge, resume: Resume | None
    ) -> ChatStream:
        call = Call(self._manager, request)
        if resume is None:
            return LiveChatStream(call, await call.open(), charge)
        first = LiveChatStream(call, await call.open())
        return ResumingStream(self._manager, call, first, resume, charge)

    async def answer(self, params: Mapping[str, Any]) -> ChatCompletion:
        """As `create` without streaming, for parameters that come as a mapping.

        Args:
            params: See `ChatCompletionParams`.

        Raises:
            DeepSeekError: As `create`.
        """
        given = {**params, "stream": None}
        control = given.pop("cache_control", None)
        made = chat_request(given)
        del params, given  # no frame of a traceback may show the prompt
        return await self._answer(accepted(made), check_control(control), CHAT)


def _resume(resume: object, *, stream: bool | None) -> Resume | None:
    if resume is None or resume is False:
        return None
    if not stream:
        message = "resume needs stream=True"
        raise InvalidRequestError(message, param="resume")
    if resume is True:
        return Resume()
    if isinstance(resume, Resume):
        return resume
    message = "resume must be a Resume, or True"
    raise InvalidRequestError(message, param="resume")


class FIMCompletions(_Answers):
    """`client.completions`: fill in the middle."""

    __slots__ = ()

    @overload
    async def create(
        self, *, stream: Literal[True], **params: Unpack[CompletionParams]
    ) -> CompletionStream: ...
    @overload
    async def create(
        self,
        *,
        stream: Literal[False] | None = None,
        **params: Unpack[CompletionParams],
    ) -> Completion: ...
    @overload
    async def create(
        self, *, stream: bool, **params: Unpack[CompletionParams]
    ) -> Completion | CompletionStream: ...
    async def create(
        self, *, stream: bool | None = None, **params: Unpack[CompletionParams]
    ) -> Completion | CompletionStream:
        """Complete the text between a prompt and a suffix (beta).

        https://api-docs.deepseek.com/api/create-completion

        Args:
            stream: Whether to return a stream instead of the whole completion.
            **params: See `CompletionParams`.

        Returns:
            The completion, or with `stream=True` a `CompletionStream`.

        Raises:
            DeepSeekError: As `chat.completions.create`.
        """
        given_control = params.pop("cache_control", None)
        made = fim_request({**params, "stream": stream})
        del params  # no frame of a traceback may show the prompt
        request = accepted(made)
        control = check_control(given_control)
        if not request.stream:
            return await self._answer(request, control, FIM)
        if self._redaction is not None:
            message = "streams of this endpoint cannot be restored: await the answer"
            raise InvalidRequestError(message, param="stream")
        charge = self._meter.open(request.model, request.tag)
        call = Call(self._manager, request)
        return LiveCompletionStream(call, await call.open(), charge)


def _fetch(
    manager: SessionManager, meter: UsageMeter, request: WireRequest, codec: Codec[A]
) -> Coroutine[Any, Any, A]:
    """Fetch an answer and enter it in the meter. No coroutine of its own: it is hot."""
    charge = meter.open(request.model, request.tag)

    def settle(answer: A) -> None:
        charge.settle(answer.usage)
        answer.set_bill(charge.bill)

    return fetch(manager, request, codec, is_complete=_has_choices, on_answer=settle)


def _has_choices(answer: ChatCompletion | Completion) -> bool:
    return bool(answer.choices)


class Models:
    """`client.models`."""

    __slots__ = ("_manager",)

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager

    async def list(self, **options: Unpack[CallOptions]) -> ModelList:
        """The models on offer.

        https://api-docs.deepseek.com/api/list-models

        Args:
            **options: See `CallOptions`.

        Raises:
            DeepSeekError: As `chat.completions.create`.
        """
        request = accepted(get_request("/models", options))
        return await fetch(self._manager, request, MODELS)

    async def retrieve(self, model: str, **options: Unpack[CallOptions]) -> Model:
        """One model.

        Args:
            model: Its id.
            **options: See `CallOptions`.

        Raises:
            DeepSeekError: As `chat.completions.create`.
        """
        if type(model) is not str or not model.strip("."):
            message = "model must be the id of a model"
            raise InvalidRequestError(message, param="model")
        path = f"/models/{quote(model, safe='', errors='replace')}"
        request = accepted(get_request(path, options))
        return await fetch(self._manager, request, MODEL)


async def fetch_balance(manager: SessionManager, options: Mapping[str, Any]) -> Balance:
    """The money left; see `AsyncDeepSeek.balance`."""
    request = accepted(get_request("/user/balance", options))
    return await fetch(manager, request, BALANCE)
