"""Fill-in-the-middle completions.

https://api-docs.deepseek.com/api/create-completion
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from msgspec import Struct

from .meta import Answer
from .request import RequestStruct, StreamOptions
from .usage import Usage


class CompletionRequest(RequestStruct, kw_only=True, omit_defaults=True):
    """The body of a FIM request.

    Attributes:
        model: The model's name.
        prompt: The text before the gap.
        suffix: The text after the gap.
        echo: Whether to repeat the prompt; not together with `suffix`.
        max_tokens: The most tokens to generate, 4,096 at most.
        stop: Up to 16 texts that end the completion.
        stream: Whether to stream.
        stream_options: Options of a stream.
        temperature: 0 to 2.
        top_p: At most 1.
        logprobs: How many likely tokens to report, 20 at most.
        frequency_penalty: Deprecated, without effect.
        presence_penalty: Deprecated, without effect.
    """

    model: str
    prompt: str
    suffix: str | None = None
    echo: bool | None = None
    max_tokens: int | None = None
    stop: str | Sequence[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | Mapping[str, Any] | None = None
    temperature: float | None = None
    top_p: float | None = None
    logprobs: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None


class CompletionLogprobs(Struct, kw_only=True):
    """Log probabilities of a FIM completion, one list entry a token.

    Attributes:
        text_offset: Where each token begins in the text.
        token_logprobs: Natural logarithm of each token's probability.
        tokens: Each token's text.
        top_logprobs: The likely tokens at each place, by text.
    """

    text_offset: list[int] | None = None
    token_logprobs: list[float | None] | None = None
    tokens: list[str] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class CompletionChoice(Struct, kw_only=True):
    """One completion, or in a stream the next piece of it.

    Attributes:
        text: The generated text.
        index: Its place, 0.
        finish_reason: `stop`, `length`, `content_filter`,
            `insufficient_system_resource`, or a word yet unknown.
        logprobs: Log probabilities, if asked for.
    """

    text: str = ""
    index: int = 0
    finish_reason: str | None = None
    logprobs: CompletionLogprobs | None = None


class CompletionChunk(Struct, kw_only=True, gc=False):
    """One payload of a FIM stream; the same shape as a whole `Completion`."""

    id: str = ""
    object: str = "text_completion"
    created: int = 0
    model: str = ""
    system_fingerprint: str | None = None
    choices: list[CompletionChoice] = []
    usage: Usage | None = None


class Completion(Answer, kw_only=True, dict=True):
    """The answer to a FIM request.

    Attributes:
        id: The server's id of the answer.
        object: `"text_completion"`.
        created: Unix time in seconds.
        model: The model that answered.
        system_fingerprint: The backend configuration, where the server tells it.
        choices: One choice.
        usage: Token counts as billed.
    """

    id: str = ""
    object: str = "text_completion"
    created: int = 0
    model: str = ""
    system_fingerprint: str | None = None
    choices: list[CompletionChoice] = []
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """The text of the first choice, `""` where there is none."""
        return self.choices[0].text if self.choices else ""

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended."""
        return self.choices[0].finish_reason if self.choices else None

    @property
    def cost(self) -> Decimal | None:
        """What it cost in US dollars, by the time and the model asked for.

        `None` where the server sent no token counts or the model has no price. An
        answer that was not received by a client is priced by `model` and `created`.
        """
        return self._cost(self.usage, self.model, self.created)
