"""A typed Python function as a tool of the model.

https://api-docs.deepseek.com/guides/tool_calls
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, Generic, ParamSpec, TypeVar, cast, overload

import anyio

from ..errors import SchemaError, StrictSchemaError, ToolDefinitionError
from ..schema import (
    Parameters,
    encode_result,
    innermost,
    is_array,
    parse_docstring,
    strict_schema,
)
from ..types.request import FilePart, ImagePart, TextPart

P = ParamSpec("P")
R = TypeVar("R")

_PARTS: Final = (TextPart, ImagePart, FilePart)
_NAME: Final = r"[A-Za-z0-9_-]{1,128}"


class LocalTool(Mapping[str, Any], Generic[P, R]):
    """A function that the model may call and this process runs; see `tool`.

    It can be called like the function itself. As a mapping it is the tool's
    definition on the wire, so it goes wherever a tool dict goes, and
    `dict(my_tool)` shows what the model reads.

    Args:
        function: The function.
        name: Its name for the model; the function's own if not given.
        description: What it does and when to call it; the docstring's beginning if
            not given.
        strict: Hold the model to the schema (beta).
        timeout: Seconds it may run, in place of the policy's.

    Attributes:
        name: Its name for the model.
        timeout: Seconds it may run; `None` leaves it to the policy.

    Raises:
        ToolDefinitionError: It is no function, a generator or a tool already, or its
            name is not allowed, or a parameter has no type, is variadic, or has a
            type that JSON cannot carry, or an option has the wrong type.
        StrictSchemaError: The strict subset cannot express a parameter.
    """

    __slots__ = (
        "_definition",
        "_function",
        "_is_async",
        "_parameters",
        "name",
        "timeout",
    )

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        description: str | None = None,
        strict: bool = False,
        timeout: float | None = None,
    ) -> None:
        self._function = function
        self._is_async = _is_async(function)
        self.name = check_name(name or _name_of(function))
        _refuse_function(function)
        _refuse_options(description, timeout)
        self.timeout = timeout
        doc = parse_docstring(inspect.getdoc(innermost(function)))
        try:
            self._parameters = Parameters(function, doc.parameters)
            self._definition = self._define(description or doc.description, strict)
        except StrictSchemaError as error:
            refused: SchemaError | ToolDefinitionError = StrictSchemaError(
                f"tool {self.name!r}, {error.path}", error.keyword
            )
        except (SchemaError, ValueError) as error:  # a builtin has no signature
            refused = ToolDefinitionError(f"tool {self.name!r}: {error}")
        else:
            return
        raise refused

    def _define(self, description: str, strict: bool) -> dict[str, Any]:  # noqa: FBT001
        schema = self._parameters.schema
        function: dict[str, Any] = {"name": self.name}
        if description:
            function["description"] = description
        function["parameters"] = strict_schema(schema) if strict else schema
        if strict:
            function["strict"] = True
        return {"type": "function", "function": function}

    def __repr__(self) -> str:
        return f"LocalTool({self.name!r})"

    @property
    def __wrapped__(self) -> Callable[P, R]:
        """The function itself, where `inspect` looks for it."""
        return self._function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        return self._function(*args, **kwargs)

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401 - arbitrary JSON
        return self._definition[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._definition)

    def __len__(self) -> int:
        return len(self._definition)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    @property
    def description(self) -> str:
        """What the model reads about it."""
        found: str = self._definition["function"].get("description", "")
        return found

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON Schema of its parameters, as the model reads it."""
        found: dict[str, Any] = self._definition["function"]["parameters"]
        return found

    @property
    def strict(self) -> bool:
        """Whether the model is held to the schema."""
        return "strict" in self._definition["function"]

    def check(self, arguments: str) -> tuple[list[object], dict[str, object]]:
        """Check the arguments of a call.

        Args:
            arguments: The JSON text the model wrote.

        Returns:
            Positional and keyword arguments for `run`.

        Raises:
            ValueError: They do not fit; the message is fit for the model to read.
        """
        return self._parameters.decode(arguments)

    async def run(
        self,
        args: Iterable[object] = (),
        kwargs: Mapping[str, object] | None = None,
        *,
        threads: anyio.CapacityLimiter | None = None,
    ) -> str | list[Any]:
        """Run the function and make its result a tool message's content.

        A plain `def` runs in a worker thread. When the waiting is cancelled the
        thread is left alone to finish, as threads cannot be stopped; its result is
        dropped.

        Args:
            args: Positional arguments.
            kwargs: Keyword arguments.
            threads: Bounds the worker threads.

        Returns:
            Text as it is, content parts (a list of `TextPart`, `ImagePart` and
            `FilePart`) as a list, everything else as JSON.

        Raises:
            Exception: Whatever the function raises.
            TypeError: The result cannot be encoded as JSON.
            ValueError: It holds a lone surrogate or a number out of range.
        """
        # The arguments have been checked against the signature.
        function = cast("Callable[..., object]", self._function)
        call = partial(function, *args, **(kwargs or {}))
        if self._is_async:
            result = call()
        else:
            result = await anyio.to_thread.run_sync(
                call, abandon_on_cancel=True, limiter=threads
            )
        if inspect.isawaitable(result):  # a sync decorator of an async function, too
            result = await result
        return _content_of(result)


def _is_async(function: Callable[..., object]) -> bool:
    # What is called decides, not what it wraps.
    return any(map(inspect.iscoroutinefunction, _called(function)))


def _is_generator(function: Callable[..., object]) -> bool:
    called = _called(function)
    return any(map(inspect.isgeneratorfunction, called)) or any(
        map(inspect.isasyncgenfunction, called)
    )


def _called(function: Callable[..., object]) -> tuple[object, object]:
    """A function, below partial applications, and what runs if it is an object."""
    while isinstance(function, partial):
        function = function.func
    return function, getattr(function, "__call__", None)  # noqa: B004


def _refuse_function(function: object) -> None:
    if not callable(function):
        message = f"a tool is made of a function, not of {type(function).__name__}"
    elif isinstance(function, LocalTool):
        message = f"{function.name!r} is a tool already"
    elif _is_generator(function):
        message = "a generator cannot be a tool: return a list"
    else:
        return
    raise ToolDefinitionError(message)


def _refuse_options(description: object, timeout: object) -> None:
    if description is not None and not isinstance(description, str):
        message = f"description must be text, not {type(description).__name__}"
        raise ToolDefinitionError(message)
    if isinstance(timeout, int | float) and timeout is not True and timeout > 0:
        return
    if timeout is not None:
        message = "timeout must be a positive number of seconds, or None"
        raise ToolDefinitionError(message)


def _name_of(function: Callable[..., object]) -> str:
    found: str = getattr(function, "__name__", type(function).__name__)
    return found


def check_name(name: str) -> str:
    """Return a tool's name, or refuse it.

    Args:
        name: Letters, digits, `_` and `-`, 1 to 128 of them.

    Raises:
        ToolDefinitionError: The API would not take it.
    """
    text = str(name)
    if not re.fullmatch(_NAME, text):
        message = (
            f"tool name {text[:140]!r} must be 1 to 128 letters, digits, '_' or '-': "
            "pass name="
        )
        raise ToolDefinitionError(message)
    return text


def _content_of(result: object) -> str | list[Any]:
    if isinstance(result, str):
        result.encode()
        return result
    if is_array(result) and result and all(isinstance(p, _PARTS) for p in result):
        encode_result(result)  # raises, if they cannot be sent
        return result
    return encode_result(result)


@overload
def tool(function: Callable[P, R], /) -> LocalTool[P, R]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    strict: bool = False,
    timeout: float | None = None,
) -> Callable[[Callable[P, R]], LocalTool[P, R]]: ...
def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    strict: bool = False,
    timeout: float | None = None,
) -> LocalTool[P, R] | Callable[[Callable[P, R]], LocalTool[P, R]]:
    """Make a tool of a typed function, sync or async.

        @tool
        async def get_weather(city: Annotated[str, "in English"]) -> Weather:
            \"\"\"Weather right now.\"\"\"

    The annotations become the JSON Schema: msgspec structs, dataclasses, TypedDicts,
    enums, literals, unions, collections, constraints in `Annotated[int, Meta(ge=1)]`,
    and pydantic models if the package is installed. The docstring's beginning
    becomes the description, its `Args:` section (Google style) the parameters'; text
    in `Annotated[str, "..."]` does as well. A type may refer to itself.

    Args:
        function: The function; with any option, call `tool` first: `@tool(...)`. A
            tool is returned as it is.
        name: Its name for the model: letters, digits, `_` and `-`, 128 at most.
        description: What it does and when to call it.
        strict: Hold the model to the schema (beta: such requests go there by
            themselves, and then every tool of the request must be strict).
            See https://api-docs.deepseek.com/guides/tool_calls
        timeout: Seconds it may run, in place of `ToolPolicy.timeout`.

    Returns:
        The tool, which can still be called like the function.

    Raises:
        ToolDefinitionError: The function cannot be a tool; the message names the
            parameter.
        StrictSchemaError: The strict subset cannot express a parameter.
    """

    def made(function: Callable[P, R]) -> LocalTool[P, R]:
        return LocalTool(
            function,
            name=name,
            description=description,
            strict=strict,
            timeout=timeout,
        )

    if isinstance(function, LocalTool):
        return cast("LocalTool[P, R]", function)
    return made if function is None else made(function)
