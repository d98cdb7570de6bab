"""What goes wrong above the wire: schemas, tools, conversations."""

from __future__ import annotations

from .root import DeepSeekError


class SchemaError(DeepSeekError, ValueError):
    """JSON Schema cannot express a type."""


class StrictSchemaError(SchemaError):
    """Strict mode's subset of JSON Schema cannot express something.

    See https://api-docs.deepseek.com/guides/tool_calls

    Args:
        hint: What is needed instead, in parentheses at the end of the message.

    Attributes:
        path: Where, such as `$.filters.tags[]`.
        keyword: What, such as `maxItems`.
    """

    def __init__(self, path: str, keyword: str, hint: str = "") -> None:
        super().__init__(
            f"{path}: {keyword} cannot be expressed in strict mode"
            + (f" ({hint})" if hint else "")
        )
        self.path = path
        self.keyword = keyword


class ToolError(DeepSeekError):
    """Something is wrong with a tool of the caller's, or with calls of it."""


class ToolDefinitionError(ToolError, ValueError):
    """A function cannot be a tool: its name, or a parameter of it."""


class ToolExecutionError(ToolError):
    """A tool raised (its exception is the `__cause__`) and the policy is to stop.

    Attributes:
        name: The tool.
        call_id: The id of the call.
    """

    def __init__(self, message: str, *, name: str, call_id: str) -> None:
        super().__init__(message)
        self.name = name
        self.call_id = call_id


class InvalidToolCallError(ToolError):
    """The model kept calling unknown tools, or with arguments that do not fit.

    Attributes:
        name: The function of the last such call.
        problem: What was wrong with it.
    """

    def __init__(self, message: str, *, name: str, problem: str) -> None:
        super().__init__(message)
        self.name = name
        self.problem = problem


class ToolRoundsExceededError(ToolError):
    """The model still wanted calls made after the allowed number of rounds.

    Attributes:
        rounds: How many rounds there were.
    """

    def __init__(self, rounds: int) -> None:
        super().__init__(f"the model still calls tools after {rounds} rounds")
        self.rounds = rounds


class ConversationError(DeepSeekError):
    """A conversation cannot do what was asked of it; its history is unchanged."""


class ConversationBusyError(ConversationError):
    """A turn of this conversation is still under way; `fork` for a parallel one."""


class ToolCallsPendingError(ConversationError):
    """Calls of the last answer have no result yet, or a result has no call.

    Attributes:
        call_ids: The calls concerned.
    """

    def __init__(self, message: str, call_ids: tuple[str, ...]) -> None:
        super().__init__(message)
        self.call_ids = call_ids


class ContextBudgetError(ConversationError):
    """What the policy must keep is longer than the context has room for.

    Attributes:
        tokens: How long it is.
        limit: How much room there is.
    """

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(
            f"the conversation takes {tokens} tokens where {limit} have room, "
            "and nothing more can be dropped"
        )
        self.tokens = tokens
        self.limit = limit


class SavedConversationError(ConversationError, ValueError):
    """What is to be loaded is no saved conversation."""
