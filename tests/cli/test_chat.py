"""`deepseek-async chat`."""

from __future__ import annotations

import pytest

from deepseek_async.testing import Answer, Cut, DeepSeekEmulator, Finish, Pace, Status

from .conftest import KEY, Opens, RunsCLI


async def test_answer_on_stdout_and_usage_on_stderr(
    cli: RunsCLI, api: DeepSeekEmulator
) -> None:
    """Redirected, stdout holds the answer alone and stderr one line of numbers."""
    api.answer = lambda _: Answer(content="Four.", reasoning="Let me add.")
    run = await cli("chat", "What", "is", "2+2?")

    assert run.code == 0
    assert run.out == "Four.\n"
    assert " in (0 cached) · " in run.err
    assert " reasoning) · $0.0000" in run.err
    assert api.requests[-1].body["messages"] == [
        {"role": "user", "content": "What is 2+2?"}
    ]


async def test_options_reach_the_wire(cli: RunsCLI, api: DeepSeekEmulator) -> None:
    """Each option becomes the field of the request that it names."""
    run = await cli(
        *("chat", "-m", "deepseek-v4-pro", "-s", "Be brief.", "--no-thinking"),
        *("--temperature", "0.5", "--max-tokens", "7", "--quiet", "hi"),
    )
    body = api.requests[-1].body

    assert run.code == 1  # seven tokens cut the answer
    assert body["model"] == "deepseek-v4-pro"
    assert body["thinking"] == {"type": "disabled"}
    assert (body["temperature"], body["max_tokens"]) == (0.5, 7)
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}


async def test_show_reasoning(cli: RunsCLI, api: DeepSeekEmulator) -> None:
    """Reasoning is redirected too when it is asked for, undimmed."""
    api.answer = lambda _: Answer(content="Four.", reasoning="Let me add.")
    run = await cli("chat", "--show-reasoning", "--quiet", "2+2?")

    assert run.out == "Let me add.\n\nFour.\n"
    assert run.err == ""


@pytest.mark.parametrize("argv", [("chat",), ("chat", "-")])
async def test_reads_stdin(
    cli: RunsCLI, api: DeepSeekEmulator, argv: tuple[str, ...]
) -> None:
    """Without a prompt, or with a dash, standard input is the prompt."""
    await cli(*argv, stdin="\ufeffWie spät\nist es?\n".encode())

    assert api.requests[-1].body["messages"][-1]["content"] == "Wie spät\nist es?"


async def test_prompt_and_stdin(cli: RunsCLI, api: DeepSeekEmulator) -> None:
    """A prompt with a dash puts standard input behind it; without one, it waits."""
    await cli("chat", "Summarise:", "-", stdin=b"long text")
    await cli("chat", "Summarise nothing", stdin=b"not mine to read")
    sent = [request.body["messages"][-1]["content"] for request in api.requests]

    assert sent == ["Summarise:\n\nlong text", "Summarise nothing"]


async def test_output_is_sanitised_unless_raw(
    cli: RunsCLI, api: DeepSeekEmulator
) -> None:
    """What a terminal would obey is cut out; markup of rich is text; raw is raw."""
    nasty = "[red]a[/red]\t\x1b]0;owned\x07b\x1b[2J\u202ec :smile:\rd"
    api.answer = lambda _: nasty

    assert (await cli("chat", "x")).out == "[red]a[/red]\tbc :smile:d\n"
    assert (await cli("chat", "--raw", "x")).out == nasty + "\n"


@pytest.mark.parametrize(
    ("stdin", "complaint"),
    [(b" \n", "the prompt is empty"), (b"\xff\xfe", "not UTF-8 (byte 0)")],
)
async def test_bad_stdin(
    cli: RunsCLI, api: DeepSeekEmulator, stdin: bytes, complaint: str
) -> None:
    """An unusable prompt is refused before anything is sent."""
    run = await cli("chat", stdin=stdin)

    assert run.code == 2
    assert complaint in run.error
    assert not api.requests


async def test_undecodable_argument(process: RunsCLI, api: DeepSeekEmulator) -> None:
    """Bytes of the command line that are no text are refused as a wrong prompt."""
    run = await process("chat", "caf\udce9")

    assert run.code == 2
    assert "messages[0].content" in run.error or "surrogate" in run.error
    assert not api.requests


@pytest.mark.parametrize(
    ("status", "code"), [(401, 4), (402, 4), (403, 4), (400, 1), (429, 1), (500, 1)]
)
async def test_refusals(
    cli: RunsCLI, api: DeepSeekEmulator, status: int, code: int
) -> None:
    """A refusal is one line with its status, and has its exit code."""
    api.script(Status(status=status, message="no\x1b[31m\nway", times=9, retry_after=0))
    run = await cli("chat", "hi")

    assert run.code == code
    assert f"error: {status}: no way" in run.error


async def test_cut_stream(cli: RunsCLI, api: DeepSeekEmulator) -> None:
    """What came before a cut stays on stdout; the cut is an error."""
    api.pace = Pace(latency=0, tokens_per_second=1000)
    api.answer = lambda _: Answer(content="one two three four five", reasoning="")
    api.script(Cut(events=5))
    run = await cli("chat", "hi")

    assert run.code == 1
    assert run.out.startswith("one")
    assert run.error


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_unfinished_answer(
    cli: RunsCLI, api: DeepSeekEmulator, reason: str
) -> None:
    """An answer that is not whole is shown, told as such, and no success."""
    api.script(Finish(reason=reason))
    run = await cli("chat", "hi")

    assert run.code == 1
    assert reason in run.error


async def test_emulate_needs_no_key(cli: RunsCLI) -> None:
    """With --emulate there is an answer without key or network."""
    run = await cli("chat", "--emulate", "Hello")

    assert run.code == 0
    assert run.out.strip()


async def test_terminal_dims_reasoning(
    terminal: Opens, emulator: DeepSeekEmulator
) -> None:
    """On a terminal the reasoning is dimmed, the answer is not, and both are safe."""
    emulator.answer = lambda _: Answer(
        content="Four\x1b]0;owned\x07 [b]x", reasoning="Add\x1b[31m them."
    )
    env = {"DEEPSEEK_API_KEY": KEY, "DEEPSEEK_BASE_URL": emulator.base_url}
    async with terminal("chat", "2+2?", env=env) as screen:
        code = await screen.ends()

    assert code == 0
    assert b"\x1b[2mAdd them.\x1b[0m" in screen.screen.replace(b"\x1b[0m\x1b[2m", b"")
    assert b"\r\n\r\nFour [b]x\r\n" in screen.screen
    assert b"owned" not in screen.screen
    assert KEY.encode() not in screen.screen


async def test_conversation(terminal: Opens, emulator: DeepSeekEmulator) -> None:
    """A conversation remembers its turns, forgets a failed one, and can be cleared."""
    emulator.answer = lambda _: "So it is."
    env = {"DEEPSEEK_API_KEY": KEY, "DEEPSEEK_BASE_URL": emulator.base_url}
    async with terminal("chat", env=env) as screen:
        await screen.shows("> ")
        screen.type("first\n")
        await screen.shows("So it is.")
        await screen.shows("> ")
        emulator.script(Status(status=400, message="refused"))
        screen.type("second\n")
        await screen.shows("error: 400: refused")
        await screen.shows("> ")
        screen.type("third\n")
        await screen.shows("So it is.")
        await screen.shows("> ")
        screen.type("/clear\n")
        await screen.shows("> ")
        screen.type("fourth\n")
        await screen.shows("So it is.")
        await screen.shows("> ")
        screen.type("\x04")
        code = await screen.ends()
    asked = [
        [message["content"] for message in request.body["messages"]]
        for request in emulator.requests
    ]

    assert code == 0
    assert asked == [
        ["first"],
        ["first", "So it is.", "second"],
        ["first", "So it is.", "third"],
        ["fourth"],
    ]


async def test_an_unknown_command_is_not_paid_for(
    terminal: Opens, emulator: DeepSeekEmulator
) -> None:
    """It is told what there is; a path, or a blank before it, makes it a question."""
    emulator.answer = "So it is."
    env = {"DEEPSEEK_API_KEY": KEY, "DEEPSEEK_BASE_URL": emulator.base_url}
    async with terminal("chat", env=env) as screen:
        await screen.shows("> ")
        for line in ("/help", "/model deepseek-v4-pro"):
            screen.type(line + "\n")
            await screen.shows(f"there is no {line.split()[0]}: /clear forgets")
            await screen.shows("> ")
        for line in ("/etc/hosts is what?", " /usr is full"):
            screen.type(line + "\n")
            await screen.shows("So it is.")
            await screen.shows("> ")
        screen.type(" /exit\n")
        assert await screen.ends() == 0

    asked = [request.body["messages"][-1]["content"] for request in emulator.requests]
    assert asked == ["/etc/hosts is what?", "/usr is full"]


async def test_interrupted_turn(terminal: Opens, emulator: DeepSeekEmulator) -> None:
    """Ctrl-C ends the answer and frees its connection; at the prompt it ends all."""
    emulator.pace = Pace(latency=0, tokens_per_second=20)
    env = {"DEEPSEEK_API_KEY": KEY, "DEEPSEEK_BASE_URL": emulator.base_url}
    async with terminal("chat", env=env) as screen:
        await screen.shows("> ")
        screen.type("tell me a lot\n")
        await screen.shows("\x1b[2mThe")
        screen.interrupt()
        await screen.shows("(interrupted)")
        await screen.shows("> ")
        code = await screen.interrupted()

    assert code == 130
    assert screen.screen.endswith(b"interrupted\r\n")


async def test_interrupted_answer(terminal: Opens) -> None:
    """Ctrl-C in the midst of a single answer ends the command with 130."""
    async with terminal("chat", "--emulate", "tell me a lot") as screen:
        await screen.shows("\x1b[2mThe")
        screen.interrupt()
        code = await screen.ends()

    assert code == 130
    assert screen.screen.endswith(b"interrupted\r\n")


async def test_queued_is_told(terminal: Opens, emulator: DeepSeekEmulator) -> None:
    """While the server queues the request, the terminal says for how long."""
    emulator.pace = Pace(latency=0, tokens_per_second=0, queue=1.5, keep_alive=0.2)
    env = {"DEEPSEEK_API_KEY": KEY, "DEEPSEEK_BASE_URL": emulator.base_url}
    async with terminal("chat", "hi", env=env) as screen:
        await screen.shows("waiting for the model")
        await screen.shows("queued for 1 s")

        assert await screen.ends() == 0


async def test_unfinished_turn_is_kept(
    terminal: Opens, emulator: DeepSeekEmulator
) -> None:
    """A cut answer is told as such and stays in the conversation; /exit leaves."""
    emulator.answer = lambda _: "So it is."
    emulator.script(Finish(reason="length"))
    env = {"DEEPSEEK_API_KEY": KEY, "DEEPSEEK_BASE_URL": emulator.base_url}
    async with terminal("chat", "-s", "Be brief.", env=env) as screen:
        await screen.shows("> ")
        screen.type("first\n")
        await screen.shows("'length'")
        await screen.shows("> ")
        screen.type("second\n")
        await screen.shows("So it is.")
        await screen.shows("> ")
        screen.type("/exit\n")
        code = await screen.ends()
    roles = [message["role"] for message in emulator.requests[-1].body["messages"]]

    assert code == 0
    assert roles == ["system", "user", "assistant", "user"]


async def test_stdin_is_bounded(
    cli: RunsCLI, api: DeepSeekEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the limit of standard input is refused, not read on."""
    monkeypatch.setattr("deepseek_async.cli.chat.MAX_STDIN", 2**20)
    run = await cli("chat", stdin=b"x" * (2**20 + 1))

    assert run.code == 2
    assert "larger than 1 MiB" in run.error
    assert not api.requests
