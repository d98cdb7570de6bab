"""Typed Python functions as tools, and the loop that runs them.

`definition` makes a tool of a function, `calls` runs the calls of one answer, `loop`
asks and answers until the model has said its last word.

https://api-docs.deepseek.com/guides/tool_calls
"""

from __future__ import annotations

from .calls import ToolPolicy, checked_tool_policy
from .definition import LocalTool, tool
from .loop import answer_with_tools

__all__ = [
    "LocalTool",
    "ToolPolicy",
    "answer_with_tools",
    "checked_tool_policy",
    "tool",
]
