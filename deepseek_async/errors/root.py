"""The root of the tree, and what goes wrong before or beside the wire."""

from __future__ import annotations

import functools
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from ..types.chat import ChatCompletion
    from ..types.fim import Completion
    from ..types.turn import Turn


P = ParamSpec("P")
R = TypeVar("R")


class DeepSeekWarning(UserWarning):
    """A parameter has no effect on this API, or was renamed on its way out."""


def _rebuild(
    cls: type[DeepSeekError], args: tuple[object, ...], state: dict[str, object]
) -> DeepSeekError:
    """Unpickle an error without calling its `__init__`, which wants keywords."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class DeepSeekError(Exception):
    """The root of the tree.

    Attributes:
        message: What happened and what to do about it, in one or two sentences.
        so_far: Of an awaited turn that failed after a tool had ended: its finished
            rounds and every call that ended. It holds what the model wrote and what
            the tools returned.
    """

    so_far: Turn | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:  # the protocol's own loose type
        # Subclasses take keyword arguments, so they are rebuilt from their state.
        return _rebuild, (type(self), self.args, self.__dict__)


class ConfigurationError(DeepSeekError, ValueError):
    """The client cannot work with this key, base URL, header or limit."""


class InvalidRequestError(DeepSeekError, ValueError):
    """A parameter was refused before any byte was sent.

    Attributes:
        param: The path of the offending field, such as `messages[2].content`.
    """

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class MissingReasoningError(InvalidRequestError):
    """With tools and thinking, an assistant message lacks its `reasoning_content`.

    The server would refuse it with a 400; nothing was sent.
    See https://api-docs.deepseek.com/guides/thinking_mode

    Attributes:
        indexes: The places in `messages` of those that lack it.
    """

    def __init__(self, indexes: tuple[int, ...]) -> None:
        where = f"messages[{indexes[0]}].reasoning_content"
        super().__init__(
            f"{where} is missing: with tools and thinking on, every assistant message "
            f"goes back with its reasoning ({len(indexes)} lack it)",
            param=where,
        )
        self.indexes = indexes


class MissingExtraError(DeepSeekError, ImportError):
    """A feature needs an optional extra that is not installed.

    Attributes:
        extra: The name to install, as in `pip install "deepseek-async[NAME]"`.
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"an optional extra is needed for {feature}: "
            f'pip install "deepseek-async[{extra}]"'
        )
        self.extra = extra


class SpendLimitError(DeepSeekError):
    """The client's own spend limit is used up; nothing was sent.

    Attributes:
        limit: The limit in US dollars.
        spent: What the calls so far have cost.
    """

    def __init__(self, *, limit: Decimal, spent: Decimal) -> None:
        super().__init__(
            f"the spend limit of {limit} USD is used up ({spent} USD spent):"
            " raise it, or reset the client's meter"
        )
        self.limit = limit
        self.spent = spent


class ClientClosedError(DeepSeekError):
    """The client was closed before, or while, this call used it."""

    def __init__(self, message: str = "the client is closed") -> None:
        super().__init__(message)
        #: What a stream had received when the client was closed.
        self.partial: ChatCompletion | Completion | None = None


class StreamClosedError(DeepSeekError):
    """The stream was closed (or left early) and cannot be read any further.

    Attributes:
        partial: What had been received by then.
    """

    def __init__(self, message: str = "the stream is closed") -> None:
        super().__init__(message)
        self.partial: ChatCompletion | Completion | None = None


class StreamInUseError(DeepSeekError):
    """Two tasks tried to read one stream at the same time."""


class SSEEventTooLargeError(DeepSeekError):
    """A server-sent event grew past the decoder's limit.

    Attributes:
        limit: The limit in bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"a server-sent event is larger than {limit} bytes")
        self.limit = limit


def frameless(function: Callable[P, R]) -> Callable[P, R]:
    """Have errors leave a function without its frames, which show its arguments.

    Args:
        function: It is given a prompt or a history.
    """

    @functools.wraps(function)
    def outer(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except DeepSeekError as error:
            failure = error.with_traceback(None)
        del args, kwargs
        raise failure

    return outer
