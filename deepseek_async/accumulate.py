"""Chunks to the completion that the call would have returned without streaming."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from .types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessage,
    Choice,
    ChoiceLogprobs,
    ChunkChoice,
    Delta,
    FunctionCall,
    FunctionCallDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
)
from .types.fim import Completion, CompletionChoice, CompletionChunk, CompletionLogprobs
from .types.usage import Usage

_BATCH: Final = 256
"""Chunks are folded in batches: one tight loop instead of work at every chunk."""


class ToolCallAssembler:
    """Puts tool calls together from fragments, whatever servers do to them.

    Fragments belong together by index. Where the index is missing, by id; where both
    are, to the call before. A second id under a used index begins another call. Ids
    and names may be repeated, empty or absent.

    Attributes:
        calls: The calls in order of appearance, arguments as far as they came.
    """

    __slots__ = ("_arguments", "_by_index", "calls")

    def __init__(self) -> None:
        self.calls: list[ToolCall] = []
        self._arguments: list[list[str]] = []
        self._by_index: dict[int, int] = {}

    def add(self, fragment: ToolCallDelta) -> int:
        """Take one fragment.

        Args:
            fragment: From a delta's `tool_calls`.

        Returns:
            The place in `calls` that it belongs to.
        """
        place = self._place(fragment)
        call = self.calls[place]
        if fragment.id and not call.id:
            call.id = fragment.id
        if fragment.type:
            call.type = fragment.type
        if fragment.extra:
            call.keep_extra(merge_extra(call.extra, fragment.extra))
        function = fragment.function
        if function is not None:
            if function.name and not call.function.name:
                call.function.name = function.name
            if function.arguments:
                self._arguments[place].append(function.arguments)
        return place

    def _place(self, fragment: ToolCallDelta) -> int:
        found: int | None = None
        if fragment.index is not None:
            found = self._by_index.get(fragment.index)
        elif fragment.id:
            found = next(
                (i for i, call in enumerate(self.calls) if call.id == fragment.id), None
            )
        elif self.calls:
            found = len(self.calls) - 1
        if found is not None and fragment.id:
            known = self.calls[found].id
            if known and known != fragment.id:
                found = None
        if found is not None:
            return found
        self.calls.append(ToolCall(index=fragment.index))
        self._arguments.append([])
        place = len(self.calls) - 1
        if fragment.index is not None:
            self._by_index[fragment.index] = place
        return place

    def finished(self, place: int) -> ToolCall:
        """The call at a place of `calls` as it is now, its arguments joined."""
        call = self.calls[place]
        parts = self._arguments[place]
        if len(parts) != 1:
            self._arguments[place] = parts = ["".join(parts)]
        # A copy: what was handed out must not change when more fragments come.
        function = FunctionCall(name=call.function.name, arguments=parts[0])
        made = ToolCall(id=call.id, type=call.type, function=function, index=call.index)
        made.keep_extra(call.extra)
        return made

    def all_finished(self) -> list[ToolCall]:
        """Every call, arguments joined."""
        return [self.finished(place) for place in range(len(self.calls))]


def merge_extra(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Join unknown fields of two deltas: text and lists grow, the rest is replaced."""
    merged = dict(old)
    for name, value in new.items():
        known = merged.get(name)
        if isinstance(known, str) and isinstance(value, str):  # noqa: SIM114
            merged[name] = known + value
        elif isinstance(known, list) and isinstance(value, list):
            merged[name] = known + value
        elif isinstance(known, dict) and isinstance(value, dict):
            merged[name] = known | value
        elif value is not None or name not in merged:
            merged[name] = value
    return merged


class _ChoiceState:
    """One choice as far as it came."""

    __slots__ = (
        "content",
        "extra",
        "finish_reason",
        "function_arguments",
        "function_name",
        "logprobs",
        "reasoning",
        "reasoning_logprobs",
        "role",
        "title",
        "tools",
    )

    def __init__(self) -> None:
        self.role: str | None = None
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.tools: ToolCallAssembler | None = None
        self.function_name: str | None = None
        self.function_arguments: list[str] = []
        self.logprobs: list[TokenLogprob] | None = None
        self.reasoning_logprobs: list[TokenLogprob] | None = None
        self.finish_reason: str | None = None
        self.title: str | None = None
        self.extra: dict[str, Any] = {}

    def add(self, choice: ChunkChoice) -> None:
        """Take what one chunk adds."""
        delta = choice.delta
        if delta.content is not None:
            self.content.append(delta.content)
        if delta.reasoning_content is not None:
            self.reasoning.append(delta.reasoning_content)
        if choice.logprobs is not None:
            self.add_logprobs(choice.logprobs)
        if choice.finish_reason is not None:
            self.finish_reason = choice.finish_reason
        if (
            delta.role
            or delta.tool_calls
            or delta.extra
            or delta.title is not None
            or delta.function_call is not None
        ):
            self._add_rest(delta)

    def _add_rest(self, delta: Delta) -> None:
        """Take what few deltas hold."""
        if delta.role:
            self.role = delta.role
        if delta.title is not None:
            self.title = delta.title
        if delta.tool_calls:
            if self.tools is None:
                self.tools = ToolCallAssembler()
            for fragment in delta.tool_calls:
                self.tools.add(fragment)
        if delta.function_call is not None:
            self._add_function_call(delta.function_call)
        if delta.extra:
            self.extra = merge_extra(self.extra, delta.extra)

    def _add_function_call(self, fragment: FunctionCallDelta) -> None:
        self.function_name = self.function_name or fragment.name or ""
        if fragment.arguments:
            self.function_arguments.append(fragment.arguments)

    def add_logprobs(self, logprobs: ChoiceLogprobs) -> None:
        """Take the log probabilities of one chunk."""
        if logprobs.content is not None:
            if self.logprobs is None:
                self.logprobs = []
            self.logprobs += logprobs.content
        if logprobs.reasoning_content is not None:
            if self.reasoning_logprobs is None:
                self.reasoning_logprobs = []
            self.reasoning_logprobs += logprobs.reasoning_content

    def choice(self, index: int) -> Choice:
        """The choice as the server would have sent it whole."""
        function_call = None
        if self.function_name is not None:
            function_call = FunctionCall(
                name=self.function_name, arguments="".join(self.function_arguments)
            )
        message = ChatCompletionMessage(
            role=self.role or "assistant",
            content="".join(self.content) if self.content else None,
            reasoning_content="".join(self.reasoning) if self.reasoning else None,
            tool_calls=self.tools.all_finished() if self.tools else None,
            function_call=function_call,
            title=self.title,
        )
        message.keep_extra(self.extra)
        logprobs = None
        if self.logprobs is not None or self.reasoning_logprobs is not None:
            logprobs = ChoiceLogprobs(
                content=self.logprobs and list(self.logprobs),
                reasoning_content=self.reasoning_logprobs
                and list(self.reasoning_logprobs),
            )
        return Choice(
            index=index,
            message=message,
            finish_reason=self.finish_reason,
            logprobs=logprobs,
        )


class ChatAccumulator:
    """Folds the chunks of one chat stream."""

    __slots__ = ("_choices", "_first", "_unfolded", "_usage")

    def __init__(self) -> None:
        self._first: ChatCompletionChunk | None = None
        self._choices: dict[int, _ChoiceState] = {}
        self._unfolded: list[ChatCompletionChunk] = []
        self._usage: Usage | None = None

    def feed(self, chunks: Iterable[ChatCompletionChunk]) -> None:
        """Take the next chunks."""
        self._unfolded.extend(chunks)
        if len(self._unfolded) >= _BATCH:
            self._fold()

    def _fold(self) -> None:
        chunks, self._unfolded = self._unfolded, []
        if self._first is None and chunks:
            self._first = chunks[0]
        states = self._choices
        for chunk in chunks:
            if chunk.usage is not None:
                self._usage = chunk.usage
            for choice in chunk.choices:
                state = states.get(choice.index)
                if state is None:
                    state = states[choice.index] = _ChoiceState()
                state.add(choice)

    @property
    def usage(self) -> Usage | None:
        """The last usage seen."""
        self._fold()
        return self._usage

    def completion(self) -> ChatCompletion:
        """The completion as far as it came."""
        self._fold()
        first = self._first or ChatCompletionChunk()
        return ChatCompletion(
            id=first.id,
            created=first.created,
            model=first.model,
            system_fingerprint=first.system_fingerprint,
            choices=[state.choice(i) for i, state in sorted(self._choices.items())],
            usage=self._usage,
        )


class FIMAccumulator:
    """Folds the chunks of one fill-in-the-middle stream."""

    __slots__ = ("_finish_reason", "_first", "_logprobs", "_text", "_usage")

    def __init__(self) -> None:
        self._first: CompletionChunk | None = None
        self._text: list[str] = []
        self._finish_reason: str | None = None
        self._logprobs: list[CompletionLogprobs] = []
        self._usage: Usage | None = None

    def feed(self, chunks: Iterable[CompletionChunk]) -> None:
        """Take the next chunks."""
        for chunk in chunks:
            self._first = self._first or chunk
            if chunk.usage is not None:
                self._usage = chunk.usage
            for choice in chunk.choices:
                self._text.append(choice.text)
                if choice.finish_reason is not None:
                    self._finish_reason = choice.finish_reason
                if choice.logprobs is not None:
                    self._logprobs.append(choice.logprobs)

    @property
    def usage(self) -> Usage | None:
        """The last usage seen."""
        return self._usage

    def completion(self) -> Completion:
        """The completion as far as it came."""
        first = self._first or CompletionChunk()
        choice = CompletionChoice(
            text="".join(self._text),
            finish_reason=self._finish_reason,
            logprobs=_join_logprobs(self._logprobs),
        )
        return Completion(
            id=first.id,
            created=first.created,
            model=first.model,
            system_fingerprint=first.system_fingerprint,
            choices=[choice] if self._first is not None else [],
            usage=self._usage,
        )


def _join_logprobs(parts: list[CompletionLogprobs]) -> CompletionLogprobs | None:
    if not parts:
        return None
    return CompletionLogprobs(
        text_offset=[x for part in parts for x in part.text_offset or ()],
        token_logprobs=[x for part in parts for x in part.token_logprobs or ()],
        tokens=[x for part in parts for x in part.tokens or ()],
        top_logprobs=[x for part in parts for x in part.top_logprobs or ()],
    )
