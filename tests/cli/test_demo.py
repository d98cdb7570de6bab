"""`deepseek-async demo`, `models`, `balance`, `serve`, and the command itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from deepseek_async import AsyncDeepSeek, __version__
from deepseek_async.testing import DeepSeekEmulator, Status

from .conftest import COMMAND, KEY, Opens, RunsCLI


async def test_demo_on_a_terminal(terminal: Opens, tmp_path: Path) -> None:
    """The demo streams an answer, runs 200 real prompts, and sums up."""
    target = tmp_path / "out.jsonl"
    async with terminal("demo", "--emulate", "-c", "100", "-o", target) as screen:
        await screen.shows("ducks")
        await screen.shows("\x1b[2mThe")
        await screen.shows("####")
        await screen.shows("200/200")
        await screen.shows("answered       200 (")
        await screen.shows("failed         0\r\n")
        await screen.shows(" reasoning)")
        code = await screen.ends()
    lines = target.read_text("utf-8").splitlines()

    assert code == 0
    assert len({json.loads(line)["custom_id"] for line in lines}) == 200


async def test_demo_redirected(
    cli: RunsCLI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redirected, the demo keeps its output file's default name and shows no bar."""
    monkeypatch.chdir(tmp_path)
    run = await cli("demo", "--emulate", "--limit", "3")

    assert run.code == 0
    assert "answered       3 (" in run.out
    assert "\x1b" not in run.out + run.err
    assert len((tmp_path / "demo-output.jsonl").read_bytes().splitlines()) == 3


async def test_demo_fails_with_the_api(
    cli: RunsCLI, api: DeepSeekEmulator, tmp_path: Path
) -> None:
    """Rows that fail make the demo fail; a refused key ends it at once."""
    target = tmp_path / "out.jsonl"
    api.script(Status(status=400, stream=False))
    some = await cli("demo", "--limit", "3", "-o", target)
    api.script(Status(status=402, stream=False, times=9))
    fatal = await cli("demo", "--limit", "3", "-o", target)
    api.fault = lambda _: Status(status=401)
    refused = await cli("demo", "--limit", "3", "-o", target)

    assert (some.code, fatal.code, refused.code) == (1, 4, 4)
    assert "failed         1: 1 BadRequestError" in some.out
    assert "money" in fatal.error
    assert "401" in refused.error


@pytest.mark.parametrize(
    "argv", [("demo",), ("chat", "hi"), ("models",), ("balance",), ("batch", "a", "b")]
)
async def test_no_key(cli: RunsCLI, argv: tuple[str, ...]) -> None:
    """Without a key one line names both ways out."""
    run = await cli(*argv)

    assert run.code == 3
    assert "DEEPSEEK_API_KEY" in run.error
    assert "--emulate" in run.error
    assert run.out == ""


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DEEPSEEK_API_KEY", f"{KEY} with a blank"),
        ("DEEPSEEK_API_KEY", f"{KEY}\n"),
        ("DEEPSEEK_BASE_URL", f"https://user:{KEY}@example.com"),
        ("DEEPSEEK_BASE_URL", "http://example.com"),
    ],
)
async def test_wrong_configuration(
    cli: RunsCLI,
    api: DeepSeekEmulator,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
) -> None:
    """A malformed key or base URL is a configuration error that quotes neither."""
    monkeypatch.setenv(variable, value)
    run = await cli("balance")

    assert run.code == 3
    assert run.error
    assert not api.requests


async def test_unusual_origin_is_told(
    process: RunsCLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key from the environment that goes elsewhere is warned about in one line."""
    monkeypatch.setenv("DEEPSEEK_API_KEY", KEY)
    run = await process("balance", "--base-url", "https://localhost.invalid")

    assert run.code == 1
    assert run.err.splitlines()[0] == (
        "deepseek-async: warning: DEEPSEEK_API_KEY will be sent to "
        "https://localhost.invalid"
    )
    assert run.error


@pytest.mark.usefixtures("api")
async def test_models(cli: RunsCLI) -> None:
    """The models are a table, or JSON as the server sent it."""
    table = await cli("models")
    data = json.loads((await cli("models", "--json")).out)

    assert "deepseek-v4-pro" in table.out
    assert "1,048,576" in table.out
    assert data["data"][0]["id"] == "deepseek-flash"


async def test_balance(cli: RunsCLI, api: DeepSeekEmulator) -> None:
    """The balance is a table, or JSON; an empty account is pointed out."""
    table = await cli("balance")
    data = json.loads((await cli("balance", "--json")).out)
    api.balance = 0
    empty = await cli("balance")

    assert "110.00" in table.out
    assert data["balance_infos"][0]["currency"] == "USD"
    assert empty.code == 0
    assert "does not allow calls" in empty.err


async def test_emulated_account(cli: RunsCLI) -> None:
    """Models and balance work against the embedded emulator."""
    assert "deepseek-flash" in (await cli("models", "--emulate")).out
    assert "USD" in (await cli("balance", "--emulate")).out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_serve(number: signal.Signals) -> None:
    """The served emulator says where it is, answers, and ends when told to."""
    child = await asyncio.create_subprocess_exec(
        *(*COMMAND, "serve", "--port", "0", "--latency", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    async with asyncio.timeout(30):
        lines = [(await child.stdout.readline()).decode().strip() for _ in range(2)]
        settings = dict(line.split("=", 1) for line in lines)
        async with AsyncDeepSeek(
            api_key=settings["DEEPSEEK_API_KEY"], base_url=settings["DEEPSEEK_BASE_URL"]
        ) as client:
            balance = await client.balance()
        child.send_signal(number)
        _, err = await child.communicate()

    assert balance.is_available
    assert child.returncode == 0
    assert err.decode().splitlines()[-1] == "stopped"


async def test_serve_on_a_taken_port(cli: RunsCLI, emulator: DeepSeekEmulator) -> None:
    """A port that is taken is told in one line."""
    port = emulator.base_url.rpartition(":")[2]
    run = await cli("serve", "--port", port)

    assert run.code == 2
    assert f"127.0.0.1:{port}" in run.error


async def test_usage_errors(cli: RunsCLI) -> None:
    """A wrong command or option is one line and exit code 2."""
    for command, *argv in (("", "nonesuch"), (" chat", "--no"), (" batch file", "one")):
        run = await cli(*command.split()[:1], *argv)

        assert run.code == 2
        assert run.error.endswith(f"(see deepseek-async{command} --help)")


async def test_help(process: RunsCLI) -> None:
    """Help lists the subcommands and the exit codes; no argument asks for it."""
    asked = await process("--help")
    bare = await process()

    assert asked.code == bare.code == 0
    assert asked.out == bare.out
    for word in ("chat", "batch", "models", "balance", "serve", "demo", "130"):
        assert word in asked.out


async def test_version(cli: RunsCLI) -> None:
    """The version is the package's."""
    assert (await cli("--version")).out == f"deepseek-async {__version__}\n"


@pytest.mark.usefixtures("api")
async def test_unexpected_error_is_one_line(
    cli: RunsCLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error nobody foresaw is told by kind and place, its text left out."""

    async def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError(KEY)

    monkeypatch.setattr(AsyncDeepSeek, "balance", fail)
    run = await cli("balance")

    assert run.code == 1
    assert "unexpected ZeroDivisionError: test_demo.py, line" in run.error


def test_missing_extra() -> None:
    """Without typer the command names the extra to install and exits with 3."""
    program = textwrap.dedent("""
        import sys
        sys.modules["typer"] = None
        from deepseek_async.cli import main
        sys.exit(main(["--help"]))
    """)
    run = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert run.returncode == 3
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    assert 'pip install "deepseek-async[cli]"' in run.stderr


def test_plain_encoding() -> None:
    """A terminal that cannot show a character gets a replacement, not an error."""
    run = subprocess.run(  # noqa: S603 - our own command
        [*COMMAND, "chat", "--emulate", "--show-reasoning", "Zürich → 北京?"],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )

    assert run.returncode == 0
    assert run.stdout.isascii()
