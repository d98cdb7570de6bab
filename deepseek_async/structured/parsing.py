"""Ask for a typed answer, check it, and show the model its error if it has one."""

from __future__ import annotations

from decimal import Decimal
from typing import Generic, TypeVar

from ..endpoints import ChatCompletions
from ..errors import (
    BY_FINISH_REASON,
    EmptyAnswerError,
    InvalidAnswerError,
    InvalidRequestError,
    raise_for_finish_reason,
)
from ..errors.answer import is_refusal
from ..pricing import sum_costs
from ..turns import awaited
from ..types.chat import ChatCompletion
from ..types.usage import Usage
from .answer_format import AnswerFormat
from .asking import TypedRequest, text_of

T = TypeVar("T")


class ParsedCompletion(Generic[T]):
    """A typed answer.

    Attributes:
        parsed: The value.
        completion: The completion it was read from.
        usage: Token counts of that completion and of those that did not fit.
        cost: What they cost in US dollars, `None` if one of them has no price.
        repairs: How often the model was asked again.
        mode: How the answer was asked for: `json` or `tool`.
    """

    __slots__ = ("completion", "cost", "mode", "parsed", "repairs", "usage")

    def __init__(
        self,
        parsed: T,
        completion: ChatCompletion,
        *,
        usage: Usage,
        cost: Decimal | None,
        repairs: int,
        mode: str,
    ) -> None:
        self.parsed = parsed
        self.completion = completion
        self.usage = usage
        self.cost = cost
        self.repairs = repairs
        self.mode = mode

    def __repr__(self) -> str:
        kind = type(self.parsed).__name__
        return f"ParsedCompletion[{kind}]({self.mode}, {self.repairs} repairs)"


async def parse(
    completions: ChatCompletions,
    request: TypedRequest[T],
    *,
    max_repairs: int = 2,
) -> ParsedCompletion[T]:
    """Answer with a value; see `client.chat.completions.parse`.

    Args:
        completions: The endpoint.
        request: What to ask.
        max_repairs: How often to ask again after an answer that is empty or unfit.

    Raises:
        InvalidAnswerError: No answer fitted.
        UnfinishedAnswerError: An answer was cut, refused or empty.
        DeepSeekError: As `chat.completions.create`.
    """
    if not _is_count(max_repairs):
        message = "max_repairs must be a whole number, 0 or more"
        raise InvalidRequestError(message, param="max_repairs")
    usage = Usage()
    cost: Decimal | None = Decimal(0)
    repairs = 0
    while True:
        completion = await completions.answer(awaited(request.params))
        usage += completion.usage or Usage()
        cost = sum_costs(cost, completion.cost)
        try:
            value = read(completion, request.answer, repairs)
        except (InvalidAnswerError, EmptyAnswerError) as error:
            if repairs >= max_repairs:
                raise
            problem = getattr(error, "problem", "")
        else:
            return ParsedCompletion(
                value,
                completion,
                usage=usage,
                cost=cost,
                repairs=repairs,
                mode=request.mode,
            )
        repairs += 1
        request.correct(completion, problem)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def read(completion: ChatCompletion, answer: AnswerFormat[T], repairs: int = 0) -> T:
    """Read a completion as a value.

    Args:
        completion: The whole answer.
        answer: What it must look like.
        repairs: How often it was asked for again, for the error to tell.

    Raises:
        LengthFinishError: It was cut by `max_tokens` or the context window.
        ContentFilterFinishError: It was cut or withheld by the filter.
        UnfinishedAnswerError: It was cut for another reason.
        RefusedAnswerError: It is a refusal.
        EmptyAnswerError: There is nothing in it.
        InvalidAnswerError: It does not fit.
    """
    reason = completion.finish_reason
    if reason in BY_FINISH_REASON or is_refusal(completion):
        raise_for_finish_reason(completion)
    text = text_of(completion)
    if not text.strip():
        message = "the answer is empty" + (
            ", with reasoning only" if completion.is_reasoning_only else ""
        )
        raise EmptyAnswerError(message, completion=completion, finish_reason=reason)
    try:
        return answer.read(text)
    except ValueError as error:
        problem = str(error)
    raise InvalidAnswerError(
        problem, repairs=repairs, completion=completion, finish_reason=reason
    )
