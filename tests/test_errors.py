"""The tree of exceptions: shapes, texts, pickles."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
from decimal import Decimal
from typing import Any

import pytest
from recorded import body

import deepseek_async
from deepseek_async import errors
from deepseek_async.codec import CHAT, FIM
from deepseek_async.errors import (
    BY_FINISH_REASON,
    BY_STATUS,
    APIError,
    APITimeoutError,
    DeepSeekError,
    MissingExtraError,
    StreamInterruptedError,
    UnfinishedAnswerError,
    raise_for_finish_reason,
)
from deepseek_async.timeouts import Timeouts
from deepseek_async.types import Attempt, ChatCompletion, ResponseMeta

CLASSES = sorted(
    (
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, DeepSeekError)
    ),
    key=lambda cls: cls.__name__,
)
ATTEMPTS = (
    Attempt(number=1, elapsed=0.5, outcome="ServiceUnavailableError", status=503),
    Attempt(number=2, elapsed=0.25, outcome="ConnectError", wait=1.5),
)


def partial() -> ChatCompletion:
    completion = CHAT.decode(body("chat_title.json"))
    completion.set_meta(ResponseMeta(request_id="trace-1", headers={"a": "b"}))
    return completion


def argument(name: str, annotation: str) -> Any:
    """A telling value for one parameter of an error's `__init__`."""
    by_name = {"finish_reason": "length", "param": "messages[2].content"}
    by_type = {
        "int": 17,
        "float": 2.5,
        "bool": True,
        "Decimal": Decimal("1.5"),
        "tuple[int": (1, 4),
        "ChatCompletion": partial(),
    }
    for word, value in by_type.items():
        if annotation.startswith(word):
            return value
    return by_name.get(name, f"some {name}")


def made(cls: type[DeepSeekError]) -> DeepSeekError:
    """An error of the class with every attribute set."""
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    values = {p.name: argument(p.name, str(p.annotation)) for p in parameters}
    args = [values.pop(p.name) for p in parameters if p.kind is not p.KEYWORD_ONLY]
    error = cls(*args, **values)
    if isinstance(error, APIError):
        error.attempts = ATTEMPTS
        error.cause = "OSError: gone"
    if hasattr(error, "partial"):
        vars(error)["partial"] = partial()
    if isinstance(error, errors.ConnectionLostError):
        error.stale = True
    if isinstance(error, errors.RateLimitError):
        error.concurrency_limit, error.current_concurrency = 40, 41
    return error


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_pickles_with_all_it_knows(cls: type[DeepSeekError]) -> None:
    """An error comes back from a pickle of any protocol with the same attributes."""
    error = made(cls)

    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        back = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own
        assert type(back) is cls
        assert vars(back) == vars(error)
        assert back.args == error.args
        assert str(back) == str(error)
    assert vars(copy.deepcopy(error)) == vars(error)
    assert vars(copy.copy(error)) == vars(error)


def test_a_pickled_partial_keeps_what_hangs_on_it() -> None:
    """Unknown fields and meta of a partial answer survive a pickle."""
    error = StreamInterruptedError("cut")
    error.partial = partial()

    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own

    assert isinstance(back.partial, ChatCompletion)
    assert back.partial.meta == partial().meta
    assert back.partial.choices[0].message.extra["citations"]


def test_a_partial_may_be_a_fim_completion() -> None:
    """A FIM answer pickles within an error too."""
    error = StreamInterruptedError("cut")
    error.partial = FIM.decode(body("fim.json"))

    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own

    assert back.partial == error.partial


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_is_public_and_says_what_it_is(cls: type[DeepSeekError]) -> None:
    """Each class is exported, named in the module's tree, and documented."""
    assert getattr(deepseek_async, cls.__name__) is cls
    assert cls.__name__ in (errors.__doc__ or "")
    assert cls.__doc__
    assert cls.__name__.endswith("Error")


def test_the_drawn_tree_is_the_real_one() -> None:
    """Every line of the module's drawing stands below its base class."""
    drawn: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        bare = line.lstrip(" │├└─")
        name = bare.split(" ")[0]
        if name.endswith("Error") and hasattr(errors, name) and line.startswith("    "):
            drawn.append((len(line) - len(bare), name))
    path: list[tuple[int, str]] = []
    for depth, name in drawn:
        while path and path[-1][0] >= depth:
            path.pop()
        if path:
            assert issubclass(getattr(errors, name), getattr(errors, path[-1][1]))
        path.append((depth, name))

    assert {name for _, name in drawn} == {cls.__name__ for cls in CLASSES}


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (errors.ConfigurationError, ValueError),
        (errors.InvalidRequestError, ValueError),
        (errors.MissingExtraError, ImportError),
        (errors.ConnectTimeoutError, TimeoutError),
        (errors.DeadlineExceededError, TimeoutError),
    ],
)
def test_errors_are_what_python_calls_them_too(
    cls: type[Exception], builtin: type[Exception]
) -> None:
    """Where the language has a word for it, `except` of that word works."""
    assert issubclass(cls, builtin)


def test_the_text_tells_id_cause_and_attempts() -> None:
    """What one needs for a support request is in the message."""
    error = errors.ConnectError("no way", request_id="trace-9", cause="OSError: x")

    assert str(error) == "no way [OSError: x] (request id trace-9)"
    error.attempts = ATTEMPTS
    assert str(error).endswith("(after 2 attempts)")
    error.attempts = ATTEMPTS[:1]
    assert "attempts" not in str(error)


def test_a_status_error_leads_with_its_status() -> None:
    """The status comes first, and has the name other packages use."""
    error = errors.NotFoundError("no such model", status=404)

    assert str(error) == "404: no such model"
    assert error.status_code == 404


def test_a_path_that_is_not_there_asks_for_the_base_url() -> None:
    """That is what is wrong, if the server knows none of the API's paths."""
    error = errors.NotFoundError("Not Found", status=404)

    assert str(error) == "404: Not Found; is the base URL right?"
    assert error.message == "Not Found"


def test_the_clock_of_a_timeout_is_a_field_of_timeouts() -> None:
    """A timeout names the setting that would have to be changed."""
    clocks = {
        cls.clock
        for cls in CLASSES
        if issubclass(cls, APITimeoutError) and cls is not APITimeoutError
    }

    assert clocks == set(Timeouts.__struct_fields__)


def test_statuses_map_to_their_own_class() -> None:
    """Every documented status has a class; no other finish reason has one."""
    assert {400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 503} == set(BY_STATUS)
    assert set(BY_FINISH_REASON) == {
        "length",
        "content_filter",
        "insufficient_system_resource",
        "aborted",
    }


def test_a_missing_extra_tells_how_to_install_it() -> None:
    """The message is the command to run."""
    error = MissingExtraError("partial values", "cli")

    told = 'is needed for partial values: pip install "deepseek-async[cli]"'
    assert str(error) == f"an optional extra {told}"
    assert error.extra == "cli"


def completion(**message: Any) -> ChatCompletion:
    finish = message.pop("finish_reason", "stop")
    choice = {"message": message, "finish_reason": finish}
    return CHAT.decode(json.dumps({"choices": [choice]}).encode())


@pytest.mark.parametrize("reason", [*BY_FINISH_REASON, "new_word", None])
def test_an_unfinished_answer_raises_on_request(reason: str | None) -> None:
    """An answer that did not come to its own end is told by a typed error."""
    answer = completion(content="so far", finish_reason=reason)

    expected = BY_FINISH_REASON.get(reason or "", UnfinishedAnswerError)
    with pytest.raises(expected) as caught:
        raise_for_finish_reason(answer)

    assert type(caught.value) is expected
    assert caught.value.completion is answer
    assert caught.value.finish_reason == reason
    assert "so far" not in str(caught.value)


@pytest.mark.parametrize("content", [None, ""])
def test_reasoning_alone_is_an_empty_answer(content: str | None) -> None:
    """`stop` with reasoning only is no answer, and is said so."""
    answer = completion(content=content, reasoning_content="Hm.")

    assert answer.is_reasoning_only
    with pytest.raises(errors.EmptyAnswerError, match="reasoning only"):
        raise_for_finish_reason(answer)


def test_no_choice_at_all_is_unfinished() -> None:
    """An answer without choices has no finish reason to trust."""
    with pytest.raises(UnfinishedAnswerError):
        raise_for_finish_reason(ChatCompletion())


@pytest.mark.parametrize(
    "message",
    [
        {"content": "Done."},
        {"tool_calls": [{"id": "x"}], "finish_reason": "tool_calls"},
        {"function_call": {"name": "f"}, "finish_reason": "function_call"},
    ],
)
def test_a_whole_answer_is_handed_back(message: dict[str, Any]) -> None:
    """Text, tool calls and legacy calls that ended of themselves pass."""
    answer = completion(**message)

    assert raise_for_finish_reason(answer) is answer
