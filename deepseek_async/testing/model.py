"""The emulated model: from a checked request to a reply."""

from __future__ import annotations

import random
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from .answers import Answer, Answerer, as_answer, default_answer, digest_of, filled
from .cache import PrefixCache
from .catalogue import CONTEXT, Model, find_model
from .chat import Envelope, chat_chunks, chat_completion, continued, token_limit
from .conversation import prefix_of, prompt_text, render_message
from .fim import check_fim, default_middle, echoed, fim_chunks, fim_completion
from .generation import Generation, generate, stop_list, usage_of
from .prose import continuation
from .tokens import estimate_tokens
from .tools import ToolRule, choose_calls
from .validation import ChatCall, check_chat
from .wire import Body, WireError, deserialize_failure, section

if TYPE_CHECKING:
    from .faults import Fault
    from .reply import Reply

_FIM_DEFAULT_MAX: Final = 256
_ID_BITS: Final = 128


class EmulatedModel:
    """Answers chat and FIM requests; the same conversation has the same answer.

    Attributes:
        answer: Callable that says what to answer instead of the built-in words.
        tool_rules: Rules that make the model call tools.
        context_length: Tokens that prompt and answer may have together.
        accept_retired: Whether retired model names still work.
        cache: The context cache.
    """

    __slots__ = (
        "_rng",
        "_seed",
        "accept_retired",
        "answer",
        "cache",
        "context_length",
        "tool_rules",
    )

    def __init__(self, seed: int, *, accept_retired: bool) -> None:
        self._seed = seed
        self._rng = random.Random(seed + 1)  # noqa: S311
        self.answer: Answerer | None = None
        self.tool_rules: list[ToolRule] = []
        self.context_length = CONTEXT
        self.accept_retired = accept_retired
        self.cache = PrefixCache()

    def chat(
        self, body: Body, *, beta: bool, size: int, fault: Fault
    ) -> tuple[Reply, Model, Body]:
        """Return reply, model and usage for a chat request.

        Raises:
            WireError: 400 or 422 when the request is refused.
        """
        name = body.get("model")
        model = find_model(name, accept_retired=self.accept_retired)
        call = ChatCall(body, model, beta, size)
        _checked(call)
        prompt = prompt_text(body)
        limit = self._limit(body, prompt, thinks=call.thinks)
        said = self._say(call, fault, limit)
        usage = self._usage(call, said, prompt)
        envelope = self._envelope(body, model, call)
        if body.get("stream"):
            include = _includes_usage(body)
            reply = chat_chunks(said, envelope, usage, include_usage=include)
            reply.review = section(body, "safety_check").get("level") == "high"
        else:
            reply = chat_completion(said, envelope, usage)
        reply.completed = partial(
            self.cache.remember, prompt, _output(call, said), _user(body)
        )
        return reply, model, usage

    def complete(
        self, body: Body, *, size: int, fault: Fault
    ) -> tuple[Reply, Model, Body]:
        """Return reply, model and usage for a FIM request.

        Raises:
            WireError: 400 when the request is refused.
        """
        model = find_model(body.get("model"), accept_retired=self.accept_retired)
        check_fim(body, size)
        answer = (
            as_answer(self.answer(body))
            if self.answer
            else default_middle(body, self._seed)
        )
        said = generate(
            fault.amend(msgspec.structs.replace(answer, reasoning=None)),
            limit=body.get("max_tokens") or _FIM_DEFAULT_MAX,
            stop=stop_list(body.get("stop")),
            key="",
        )
        prompt = body["prompt"] + (body.get("suffix") or "")
        hit = self.cache.lookup(prompt, _user(body))
        usage = usage_of(said, estimate_tokens(prompt), hit, thinks=False)
        envelope = self._new_envelope(model, thinks=False, top=body.get("logprobs"))
        said = echoed(body, said)
        if body.get("stream"):
            include = _includes_usage(body)
            reply = fim_chunks(said, envelope, usage, include_usage=include)
        else:
            reply = fim_completion(said, envelope, usage)
        reply.completed = partial(self.cache.remember, prompt, "", _user(body))
        return reply, model, usage

    def _say(self, call: ChatCall, fault: Fault, limit: int) -> Generation:
        body = call.body
        answer = filled(self._answer(body), body, self._seed)
        if not call.thinks:
            answer = msgspec.structs.replace(answer, reasoning="")
        if not section(body, "title").get("enabled"):
            answer = msgspec.structs.replace(answer, title=None)
        prefix = prefix_of(body["messages"])
        if prefix:
            answer = self._continue(answer, prefix)
        key = f"{self._rng.getrandbits(64):016x}"
        stop = stop_list(body.get("stop"))
        return generate(fault.amend(answer), limit=limit, stop=stop, key=key)

    def _answer(self, body: Body) -> Answer:
        if self.answer is not None:
            return as_answer(self.answer(body))
        answer = default_answer(body, self._seed)
        calls = choose_calls(body, self.tool_rules, self._seed)
        if calls:
            answer = msgspec.structs.replace(answer, content="", tool_calls=calls)
        return answer

    def _continue(self, answer: Answer, prefix: Body) -> Answer:
        text: str = prefix.get("content") or ""
        if not answer.content.startswith(text):
            rng = random.Random(digest_of(text, self._seed))  # noqa: S311
            answer = msgspec.structs.replace(
                answer, content=text + continuation(text, rng)
            )
        return continued(answer, prefix)

    def _limit(self, body: Body, prompt: str, *, thinks: bool) -> int:
        limit = token_limit(body, thinks=thinks)
        used = estimate_tokens(prompt)
        asked = used + (body.get("max_tokens") or 0)
        if asked > self.context_length:
            raise WireError(
                400,
                f"This model's maximum context length is {self.context_length} tokens. "
                f"However, you requested {asked} tokens ({used} in the messages, "
                f"{asked - used} in the completion). Please reduce the length of the "
                "messages or completion.",
            )
        return min(limit, self.context_length - used)

    def _usage(self, call: ChatCall, said: Generation, prompt: str) -> Body:
        hit = self.cache.lookup(prompt, _user(call.body))
        return usage_of(said, estimate_tokens(prompt), hit, thinks=call.thinks)

    def _envelope(self, body: Body, model: Model, call: ChatCall) -> Envelope:
        top = (body.get("top_logprobs") or 0) if body.get("logprobs") else None
        envelope = self._new_envelope(model, thinks=call.thinks, top=top)
        if body.get("functions") and not body.get("tools"):
            return msgspec.structs.replace(envelope, legacy=True)
        return envelope

    def _new_envelope(self, model: Model, *, thinks: bool, top: int | None) -> Envelope:
        number = self._rng.getrandbits(_ID_BITS)
        return Envelope(
            id=str(uuid.UUID(int=number, version=4)),
            created=int(time.time()),
            model=model.name,
            thinks=thinks,
            top_logprobs=top,
        )


def _output(call: ChatCall, said: Generation) -> str:
    """The answer as the next round's prompt will repeat it."""
    text = "".join(said.content)
    output = text if prefix_of(call.body["messages"]) else ""
    spoken = [spoken_call.function for spoken_call in said.calls]
    return output or render_message("assistant", text, spoken)


def _user(body: Body) -> str:
    return str(body.get("user_id") or "")


def _includes_usage(body: Body) -> bool:
    return bool(section(body, "stream_options").get("include_usage"))


def _checked(call: ChatCall) -> None:
    """Check a request; a shape no check foresaw is a deserialisation error too."""
    try:
        check_chat(call)
    except (AttributeError, KeyError, TypeError) as error:
        problem = f"invalid type: {type(error).__name__}"
        text = deserialize_failure("", problem, call.size)
        raise WireError(400, text) from error
