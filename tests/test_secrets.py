"""A canary key and a canary prompt, looked for wherever a program could show them."""

from __future__ import annotations

import asyncio
import copy
import gc
import io
import logging
import pickle
import traceback
import types
import weakref
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rich.console
import rich.pretty
import rich.traceback
from faults.answers import (
    FIRST,
    HTML,
    LAST_CHUNK,
    STREAM_HEAD,
    error_body,
    event,
    framed,
    good,
    head,
    whole,
)
from faults.harness import (
    KEY,
    MODES,
    PROMPT,
    PROMPTLY,
    REQUEST,
    TOOL_MODES,
    Mode,
    Taken,
    ask,
    by_await,
    by_batch,
    by_completion,
    clean_client,
    client_of,
    limited,
    open_stream,
    served,
    session_of,
)
from faults.matrix import FAULTS, Fault
from faults.wire import FaultServer, Reply, Request, fin, send, stall
from leaks import chain, leaks

from deepseek_async import (
    APIError,
    AsyncDeepSeek,
    ClientClosedError,
    ConfigurationError,
    DeepSeekError,
    InvalidRequestError,
    SavedConversationError,
    SchemaError,
    StreamClosedError,
    StreamInUseError,
    UserMessage,
    count_tokens,
)
from deepseek_async.batch.source import Row
from deepseek_async.conversation.transcript import Exchange
from deepseek_async.history import plain_message
from deepseek_async.request import chat_request
from deepseek_async.streaming import LiveChatStream
from deepseek_async.tokens import EstimatedTokens

SECRETS = (KEY, PROMPT)


_TESTS = str(Path(__file__).parent)


def own_traceback(error: BaseException) -> types.TracebackType | None:
    """The error's traceback from the library's first frame on."""
    found = error.__traceback__
    while found is not None and found.tb_frame.f_code.co_filename.startswith(_TESTS):
        found = found.tb_next
    return found


def richly_rendered(error: BaseException) -> str:
    """The error as rich shows it with all locals."""
    written = io.StringIO()
    rich.console.Console(file=written, width=200).print(
        rich.traceback.Traceback.from_exception(
            type(error),
            error,
            own_traceback(error),
            show_locals=True,
            locals_max_length=1_000,
            locals_max_string=100_000,
            locals_hide_dunder=False,
        )
    )
    return written.getvalue()


def rendered(error: BaseException) -> dict[str, str]:
    """The error as the usual ways of showing one show it, locals included."""
    text = traceback.TracebackException.from_exception(error, capture_locals=True)
    plain = traceback.format_exception(error)
    return {
        "text": str(error),
        "repr": repr(error),
        "args": repr(error.args),
        "vars": repr(vars(error)),
        "plain traceback": "".join(plain),
        "traceback": "".join(text.format()),
        "pickle": repr(pickle.dumps(error)) if isinstance(error, DeepSeekError) else "",
    }


def assert_clean(error: BaseException, *secrets: str) -> None:
    """Fail if a secret shows anywhere in the error, or it holds foreign objects."""
    for way, shown in rendered(error).items():
        for secret in secrets:
            assert secret not in shown, f"{way} of {type(error).__name__}"
    assert leaks(error, *secrets) == []
    for one in chain(error):
        assert foreign_objects(one) == []


_OPAQUE = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.FrameType,
    types.TracebackType,
    types.CodeType,
)


def reachable(start: object) -> Iterator[object]:
    """Everything an object refers to, code and frames apart."""
    seen: set[int] = set()
    waiting = [start]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, _OPAQUE):
            continue
        seen.add(id(one))
        yield one
        waiting += gc.get_referents(one)


def foreign_objects(error: BaseException) -> list[str]:
    """Objects of the HTTP library or the event loop that the error holds."""
    names = (type(one).__module__ for one in reachable(error))
    return [name for name in names if name.split(".")[0] in {"aiohttp", "asyncio"}]


class Log(logging.Handler):
    """Keeps every record as text, tracebacks with it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record) + repr(record.args))


@pytest.fixture
def log() -> Iterator[Log]:
    """Everything any logger says at DEBUG."""
    kept = Log()
    root = logging.getLogger()
    before = root.level
    root.addHandler(kept)
    root.setLevel(logging.DEBUG)
    yield kept
    root.setLevel(before)
    root.removeHandler(kept)


async def failure_of(work: Awaitable[object]) -> BaseException:
    """What a call raises, with its traceback."""
    try:
        await work
    except Exception as error:  # noqa: BLE001 - that is the question
        return error
    message = "nothing was raised"
    raise AssertionError(message)


async def _failures(fault: Fault) -> list[BaseException]:
    async def fail(mode: Any) -> BaseException:
        greeting = fault.answer if fault.greeting else None
        async with FaultServer(fault.reply, greeting=greeting) as server:
            url = server.url
            url = url.replace("http:", "https:") if fault.greeting else url
            options = {"timeouts": fault.timeouts, "max_body_size": 1_000_000}
            async with clean_client(url, **options) as client:
                return await failure_of(mode(client, Taken()))

    modes = ("await", "chunks", "completion")
    return await asyncio.gather(*(fail(MODES[mode]) for mode in modes))


@limited(12.0)
async def test_fault_matrix(log: Log) -> None:
    """No error of the fault matrix shows key or prompt, nor any log line."""
    found = await asyncio.gather(*(_failures(fault) for fault in FAULTS.values()))
    for error in (error for errors in found for error in errors):
        assert isinstance(error, APIError)
        assert_clean(error, *SECRETS)

    assert not [line for line in log.lines for secret in SECRETS if secret in line]


RICHLY = ("stall at the head", "FIN inside a chunk")


@limited(5.0)
@pytest.mark.parametrize("name", RICHLY)
async def test_rich_traceback(name: str) -> None:
    """Rich, told to show every local, shows neither the key nor the prompt."""
    for error in await _failures(FAULTS[name]):
        shown = richly_rendered(error)
        assert "locals" in shown
        assert not [secret for secret in SECRETS if secret in shown]


def test_rich_shows_no_field_of_what_holds_a_prompt() -> None:
    """Rich does not ask `repr`, and prints the fields of a struct by itself."""
    message = UserMessage(content=PROMPT)
    request = chat_request({"model": "m", "messages": [message]})
    row = Row(0, "", 0, {"messages": [PROMPT]})
    exchange = Exchange.of([plain_message(message)], EstimatedTokens())
    for one in (message, request, row, exchange):
        for shown in (repr(one), rich.pretty.pretty_repr(one)):
            assert type(one).__name__ in shown
            assert PROMPT not in shown


ECHO: dict[str, Reply] = {
    "401": (send(whole(error_body(f"bad key {KEY}"), "401 Unauthorized")),),
    "401 text": (send(whole(f"Bearer {KEY}".encode(), "401 x", "text/plain")),),
    "HTML": (send(whole(HTML + KEY.encode(), kind="text/html")),),
    "JSON with 200": (send(whole(error_body(f"key {KEY}"))),),
    "another JSON": (send(whole(f'{{"headers": "{KEY}"}}'.encode())),),
    "no JSON": (send(whole(f"you sent {KEY}".encode())),),
    "in the stream": (
        send(STREAM_HEAD + framed(FIRST + event(error_body(KEY).decode()))),
        send(LAST_CHUNK),
    ),
    "an event": (send(STREAM_HEAD + framed(f"data: {KEY}\n\n".encode())), fin()),
    "status line": (send(f"Bearer {KEY}\r\n\r\n".encode()), fin()),
    "bad header": (send(f"HTTP/1.1 200 OK\r\nx {KEY}\r\n\r\n".encode()), fin()),
    "bad chunk": (send(STREAM_HEAD + f"{KEY}\r\n".encode()), fin()),
    "redirect": (send(head("307 x", Location=f"http://{KEY}@x/", Content_Length="0")),),
    "retry after": (send(head("429 x", Retry_After=KEY, Content_Length="0")),),
    "error fields": (
        send(
            whole(
                b'{"error": {"message": "m", "code": "%b", "param": "%b"}}'
                % ((KEY.encode(),) * 2),
                "400 x",
            )
        ),
    ),
}


@limited(3.0)
@pytest.mark.parametrize("name", ECHO)
async def test_server_that_echoes_the_key(name: str) -> None:
    """A server that sends the key back does not get it into an error."""
    for mode in (by_await, by_completion):
        async with served(ECHO[name]) as (_server, client):
            error = await failure_of(mode(client, Taken()))
            assert isinstance(error, APIError)
            shown = rendered(error)
            # Locals do hold what the server sent: that is not redacted.
            del shown["traceback"]
            assert not [way for way, text in shown.items() if KEY in text]
            assert foreign_objects(error) == []


async def _not_finite(client: AsyncDeepSeek) -> None:
    await ask(client, temperature=float("nan"))


async def _unknown_parameter(client: AsyncDeepSeek) -> None:
    await ask(client, temprature=1)


async def _surrogate(client: AsyncDeepSeek) -> None:
    await ask(client, messages=[{"role": "user", "content": PROMPT + "\ud800"}])


async def _wrong_type(client: AsyncDeepSeek) -> None:
    await ask(client, messages=[{"role": "user", "content": {PROMPT: object()}}])


async def _wrong_header(client: AsyncDeepSeek) -> None:
    await ask(client, extra_headers={"X-Mine": f"{KEY}\n"})


async def _wrong_control(client: AsyncDeepSeek) -> None:
    await ask(client, cache_control="never")


async def _resumed_answer(client: AsyncDeepSeek) -> None:
    await ask(client, resume=True)


async def _two_formats(client: AsyncDeepSeek) -> None:
    parameters: Any = {**_asked(), "response_format": {"type": "text"}}
    await client.chat.completions.parse(response_type=dict[str, int], **parameters)


async def _no_schema(client: AsyncDeepSeek) -> None:
    await client.chat.completions.parse(response_type=object, **_asked())


async def _no_history(client: AsyncDeepSeek) -> None:
    history: Any = [*REQUEST["messages"], 5]
    client.conversation(model="m", messages=history)


async def _no_saved_conversation(client: AsyncDeepSeek) -> None:
    client.load_conversation(f'{{"messages": "{PROMPT}"}}')


async def _streamed_by_option(client: AsyncDeepSeek) -> None:
    parameters: Any = {**_asked(), "stream": True}
    await client.chat.completions.run_tools(**parameters)


async def _parsed_by_option(client: AsyncDeepSeek) -> None:
    parameters: Any = {**_asked(), "stream": True}
    client.chat.completions.stream_parse(response_type=int, **parameters)


async def _sent_by_option(client: AsyncDeepSeek) -> None:
    options: Any = {"stream": True}
    await client.conversation(model="m").send(PROMPT, **options)


async def _no_model(client: AsyncDeepSeek) -> None:
    parameters: Any = {"messages": REQUEST["messages"]}
    await client.chat.completions.create(**parameters)


REFUSED: dict[str, Callable[[AsyncDeepSeek], Awaitable[None]]] = {
    "not finite": _not_finite,
    "unknown parameter": _unknown_parameter,
    "lone surrogate": _surrogate,
    "wrong type": _wrong_type,
    "wrong header": _wrong_header,
    "wrong cache control": _wrong_control,
    "an answer to be resumed": _resumed_answer,
    "two response formats": _two_formats,
    "a type without a schema": _no_schema,
    "a history that is none": _no_history,
    "a saved conversation that is none": _no_saved_conversation,
    "a stream of a turn": _streamed_by_option,
    "a stream of a typed answer": _parsed_by_option,
    "a stream of a conversation": _sent_by_option,
    "no model": _no_model,
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_request(name: str) -> None:
    """A request refused before a byte leaves shows neither its prompt nor a header."""
    async with client_of("http://127.0.0.1:9") as client:
        error = await failure_of(REFUSED[name](client))

    assert isinstance(error, InvalidRequestError | SchemaError | SavedConversationError)
    assert leaks(error, *SECRETS) == []


async def _wrong_policy(client: AsyncDeepSeek) -> None:
    await client.chat.completions.run_tools(policy=WRONG, **_asked())


async def _wrong_policy_in_a_stream(client: AsyncDeepSeek) -> None:
    await client.chat.completions.stream_tools(policy=WRONG, **_asked()).turn()


async def _wrong_policy_in_a_conversation(client: AsyncDeepSeek) -> None:
    client.conversation(policy=WRONG, **_asked())


async def _wrong_counter(client: AsyncDeepSeek) -> None:
    client.conversation(tokens=WRONG, **_asked())


async def _wrong_choice(client: AsyncDeepSeek) -> None:
    saved = f'{{"version": 1, "model": "m", "head": [{{"role": "{PROMPT}"}}]}}'
    client.load_conversation(saved, lost_reasoning=WRONG)


async def _wrong_count(client: AsyncDeepSeek) -> None:
    del client
    count_tokens(PROMPT, WRONG)


async def _wrong_retry_of_a_batch(client: AsyncDeepSeek) -> None:
    client.batch([_asked()], retry=WRONG, request=PROMPT)


async def _wrong_template(client: AsyncDeepSeek) -> None:
    client.batch([{"text": "x"}], request=PROMPT + "{")


WRONG: Any = 5
MISFITS: dict[str, Callable[[AsyncDeepSeek], Awaitable[None]]] = {
    "a policy": _wrong_policy,
    "a policy of a stream": _wrong_policy_in_a_stream,
    "a policy of a conversation": _wrong_policy_in_a_conversation,
    "a counter": _wrong_counter,
    "a choice": _wrong_choice,
    "a counter of a text": _wrong_count,
    "a retry policy of a batch": _wrong_retry_of_a_batch,
    "a template": _wrong_template,
}


@pytest.mark.parametrize("name", MISFITS)
async def test_misfit_option(name: str) -> None:
    """Nor does an option of the wrong kind that stands beside the prompt."""
    async with client_of("http://127.0.0.1:9") as client:
        error = await failure_of(MISFITS[name](client))

    assert isinstance(error, ConfigurationError)
    assert leaks(error, *SECRETS) == []


@limited(5.0)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("phase", ["head", "body"])
async def test_timeout_and_cancellation_of_the_caller(phase: str, mode: str) -> None:
    """The caller's own timeout around a call chains to nothing that shows secrets."""
    opened = whole(b"{")[:-1] if mode == "await" else STREAM_HEAD + framed(FIRST)
    reply = (stall(),) if phase == "head" else (send(opened), stall())
    async with served(reply) as (server, client):

        async def bounded() -> None:
            async with asyncio.timeout(0.05):
                await MODES[mode](client, Taken())

        assert_clean_chain(await failure_of(bounded()))

        call = asyncio.create_task(MODES[mode](client, Taken()))
        await server.requested(2)
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await call
        assert_clean_chain(caught.value)


def assert_clean_chain(error: BaseException) -> None:
    """Fail if the error or anything it chains to shows a secret in its frames."""
    shown = rendered(error)
    assert not [way for way in shown for secret in SECRETS if secret in shown[way]]
    assert leaks(error, *SECRETS) == []


async def _parse(client: AsyncDeepSeek, _: Taken) -> None:
    await client.chat.completions.parse(response_type=dict[str, int], **_asked())


async def _stream_parse(client: AsyncDeepSeek, _: Taken) -> None:
    made = client.chat.completions.stream_parse(
        response_type=dict[str, int], **_asked()
    )
    async with made as stream:
        await stream.result()


async def _converse(client: AsyncDeepSeek, _: Taken) -> None:
    await client.conversation(model="m").send(PROMPT)


async def _converse_in_a_stream(client: AsyncDeepSeek, _: Taken) -> None:
    async with client.conversation(model="m").stream(PROMPT) as turn:
        await turn.turn()


async def _fill_in(client: AsyncDeepSeek, _: Taken) -> None:
    await client.completions.create(model="m", prompt=PROMPT)


async def _fill_in_a_stream(client: AsyncDeepSeek, _: Taken) -> None:
    async for _chunk in await client.completions.create(
        model="m", prompt=PROMPT, stream=True
    ):
        pass


async def _resume(client: AsyncDeepSeek, _: Taken) -> None:
    await (await open_stream(client, resume=True)).completion()


def _asked() -> Any:
    return REQUEST


ABOVE: dict[str, Mode] = {
    **TOOL_MODES,
    "batch": by_batch,
    "parse": _parse,
    "stream_parse": _stream_parse,
    "conversation": _converse,
    "conversation streamed": _converse_in_a_stream,
    "fill in": _fill_in,
    "fill in streamed": _fill_in_a_stream,
    "resume": _resume,
}
"""Everything that is built on the endpoint, or stands beside it."""


@limited(4.0)
@pytest.mark.parametrize("mode", ABOVE)
@pytest.mark.parametrize("name", ["FIN at the head", "FIN inside a chunk", "a 429"])
async def test_errors_of_what_is_built_on_it(name: str, mode: str) -> None:
    """Turns, typed answers, conversations and batches show no more than a call does."""
    async with served(FAULTS[name].reply) as (_server, client):
        error = await failure_of(ABOVE[mode](client, Taken()))

    assert isinstance(error, APIError)
    assert_clean(error, *SECRETS)


@limited(4.0)
@pytest.mark.parametrize("mode", TOOL_MODES)
async def test_errors_after_a_tool(mode: str) -> None:
    """Nor does a turn that fails in its second round."""
    fault = FAULTS["FIN inside a chunk"]

    def reply(request: Request) -> Reply:
        return good(request) if request.may_call else fault.reply(request)

    async with served(reply) as (_server, client):
        error = await failure_of(ABOVE[mode](client, Taken()))

    assert isinstance(error, APIError)
    assert_clean(error, *SECRETS)


@limited(4.0)
@pytest.mark.parametrize("mode", ABOVE)
async def test_cancelling_what_is_built_on_it(mode: str) -> None:
    """A cancellation chains to nothing that shows secrets, whatever it ends."""
    async with served((stall(),)) as (server, client):
        call = asyncio.create_task(ABOVE[mode](client, Taken()))
        await server.requested(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await call

    assert_clean_chain(caught.value)


@limited(3.0)
async def test_errors_of_leaving() -> None:
    """Errors of closed clients, closed streams and shared streams show nothing."""
    reply = (send(STREAM_HEAD + framed(FIRST)), stall())
    found: list[BaseException] = []
    async with FaultServer(reply) as server:
        client = client_of(server.url)
        stream = await open_stream(client)
        reader = asyncio.create_task(stream.completion())
        await asyncio.sleep(0.02)
        found.append(await failure_of(stream.completion()))
        await stream.close()
        found.append(await failure_of(reader))
        call = asyncio.create_task(by_completion(client, Taken()))
        await server.requested(2)
        await client.aclose()
        found.append(await failure_of(call))
        found.append(await failure_of(by_await(client, Taken())))

    kinds = [StreamInUseError, StreamClosedError, ClientClosedError, ClientClosedError]
    assert [type(error) for error in found] == kinds
    for error in found:
        assert_clean(error, *SECRETS)


@limited(3.0)
async def test_errors_in_a_group() -> None:
    """An exception group of failed calls shows nothing either."""

    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            for mode in MODES.values():
                tasks.create_task(mode(client, Taken()))

    async with served((fin(),)) as (_server, client):
        error = await failure_of(group())

    assert_clean_chain(error)
    assert isinstance(error, ExceptionGroup)


@limited(3.0)
async def test_retried_errors_leave_no_trace() -> None:
    """An error after several attempts does not chain to the earlier ones."""
    async with served((fin(),), retry=PROMPTLY) as (_server, client):
        error = await failure_of(by_completion(client, Taken()))

    assert isinstance(error, APIError)
    assert len(error.attempts) == 3
    assert chain(error) == [error]
    assert_clean(error, *SECRETS)


@limited(3.0)
async def test_objects() -> None:
    """Neither repr nor vars of any object of the client shows the key or the prompt."""
    reply = (send(STREAM_HEAD + framed(FIRST)), stall())
    async with served(good, reply) as (_server, client):
        answer = await ask(client)
        async with await open_stream(client) as stream:
            await anext(stream)
            manager = client._manager
            session = session_of(client)
            assert isinstance(stream, LiveChatStream)
            response = stream._response
            objects: list[object] = [
                client,
                client.chat,
                client.chat.completions,
                client.models,
                client.with_options(timeout=1.0),
                manager,
                session,
                stream,
                response,
                answer,
                answer.meta,
                *stream.attempts,
            ]
            shown = [repr(one) for one in objects]
            shown += [repr(vars(one)) for one in objects if hasattr(one, "__dict__")]
            shown += [str(one) for one in objects]
            shown += [f"{one}" for one in objects]

    assert not [text for text in shown for secret in SECRETS if secret in text]


@limited(3.0)
async def test_an_idle_client_holds_the_key_once_and_no_prompt() -> None:
    """After its calls a client holds the key in one place only, and no prompt."""
    async with served(good) as (_server, client):
        await by_await(client, Taken())
        await by_completion(client, Taken())
        gc.collect()
        texts = [one for one in reachable(client) if isinstance(one, str | bytes)]
        held = [one for one in texts if KEY in _text(one)]
        prompts = [one for one in texts if PROMPT in _text(one)]

    assert held == [KEY]
    assert prompts == []


@limited(3.0)
@pytest.mark.parametrize("mode", MODES)
async def test_an_idle_connection_forgets_its_caller(mode: str) -> None:
    """A pooled connection keeps neither the task that opened it nor its result."""
    async with served(good) as (server, client):
        caller = asyncio.create_task(MODES[mode](client, Taken()))
        await caller
        alive = weakref.ref(caller)
        del caller
        await asyncio.sleep(0)  # the loop itself holds whom it woke last
        gc.collect()
        assert server.open_connections == 1
        assert alive() is None


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def test_a_client_is_neither_pickled_nor_copied() -> None:
    """Pickling or copying a client fails, and the failure does not show the key."""
    client = client_of("http://127.0.0.1:9")
    for attempt in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError) as caught:
            attempt(client)
        assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "key", [f"{KEY} ", f" {KEY}", f"{KEY}\n", f"{KEY}é", f"{KEY}\ud800", f"{KEY}\x00"]
)
def test_malformed_key(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A malformed key, passed or from the environment, is refused unquoted."""
    with pytest.raises(ConfigurationError) as caught:
        AsyncDeepSeek(api_key=key)
    assert leaks(caught.value, KEY) == []
    if "\x00" not in key and "\ud800" not in key:
        monkeypatch.setenv("DEEPSEEK_API_KEY", key)
        with pytest.raises(ConfigurationError) as caught:
            AsyncDeepSeek()
        assert leaks(caught.value, KEY) == []


@limited(3.0)
async def test_debug_logs_of_healthy_calls(log: Log) -> None:
    """At DEBUG, in asyncio's debug mode, healthy calls log neither key nor prompt."""
    asyncio.get_running_loop().slow_callback_duration = 0.0
    async with served(good) as (_server, client):
        for mode in MODES.values():
            await mode(client, Taken())

    assert log.lines, "debug mode was expected to log slow callbacks"
    assert not [line for line in log.lines for secret in SECRETS if secret in line]


@limited(3.0)
async def test_request_holds_the_prompt_where_it_belongs() -> None:
    """The canaries do travel: the key in its header, the prompt in the JSON."""
    async with served(good) as (server, client):
        await ask(client)

    assert KEY in server.requests[0].headers["authorization"]
    assert PROMPT.encode() in server.requests[0].body
    assert KEY.encode() not in server.requests[0].body
    assert KEY not in server.requests[0].path
    assert REQUEST["messages"][0]["content"] == PROMPT
