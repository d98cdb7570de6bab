"""Reading a chat request: its text, its last question, its answer prefix."""

from __future__ import annotations

from typing import Final

from .wire import Body, encode, is_array

#: Prompt text that stands for one image, about as long as an image is costly.
_IMAGE: Final = "<image>" * 100


def text_of(content: object) -> str:
    """Return the text of a message's content, which may be parts or null."""
    if isinstance(content, str):
        return content
    if not is_array(content):
        return ""
    return "".join(map(_part_text, content))


def _part_text(part: Body) -> str:
    return str(part.get("text", "")) if part.get("type") == "text" else _IMAGE


def render_message(role: str, content: object, calls: object = None) -> str:
    """Return the prompt text of one message."""
    called = encode(calls).decode() if calls else ""
    return f"<{role}>{text_of(content)}{called}"


def prompt_text(body: Body) -> str:
    """Return the whole prompt as the model would read it: tools, then messages."""
    tools = body.get("tools") or body.get("functions")
    head = encode(tools).decode() if tools else ""
    return head + messages_text(body["messages"])


def messages_text(messages: list[Body]) -> str:
    """Return the prompt text of `messages`."""
    return "".join(
        render_message(
            message["role"], message.get("content"), called_functions(message)
        )
        for message in messages
    )


def called_functions(message: Body) -> list[Body]:
    """Return name and arguments of the calls an assistant message made."""
    calls: list[Body] = message.get("tool_calls") or []
    functions = [call.get("function", {}) for call in calls]
    legacy = message.get("function_call")
    return [*functions, legacy] if legacy else functions


def last_user_text(messages: list[Body]) -> str:
    """Return the text of the newest user message, or an empty string."""
    for message in reversed(messages):
        if message["role"] == "user":
            return text_of(message.get("content"))
    return ""


def prefix_of(messages: list[Body]) -> Body | None:
    """Return the last message if it is an answer prefix (beta)."""
    last = messages[-1]
    is_prefix = last["role"] == "assistant" and last.get("prefix")
    return last if is_prefix else None


def without_prefix(messages: list[Body]) -> list[Body]:
    """Return the conversation that an answer prefix continues."""
    return messages[:-1] if prefix_of(messages) else messages
