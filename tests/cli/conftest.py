"""Runs the command: in this process, as a process of its own, and on a terminal."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import pty
import signal
import struct
import sys
import termios
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
import pytest_asyncio

from deepseek_async.cli import main
from deepseek_async.testing import DeepSeekEmulator, Pace

KEY = "sk-emulator-SECRET-0123456789"
COMMAND = [sys.executable, "-m", "deepseek_async"]
LIMIT = 30.0


@dataclass(frozen=True)
class Finished:
    """How a run of the command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line on stderr that tells the failure."""
        lines = [line for line in self.err.splitlines() if "error: " in line]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


class RunsCLI(Protocol):
    """Runs the command to its end."""

    async def __call__(self, *argv: object, stdin: bytes = b"") -> Finished:
        """Run it with these arguments."""
        ...


@pytest_asyncio.fixture
async def emulator() -> AsyncIterator[DeepSeekEmulator]:
    """An emulator in the test's own loop, with a key worth hiding."""
    async with DeepSeekEmulator(api_key=KEY, pace=Pace.instant()) as running:
        yield running


@pytest.fixture
def api(
    emulator: DeepSeekEmulator, monkeypatch: pytest.MonkeyPatch
) -> DeepSeekEmulator:
    """The emulator, found by the command through the environment."""
    monkeypatch.setenv("DEEPSEEK_API_KEY", KEY)
    monkeypatch.setenv("DEEPSEEK_BASE_URL", emulator.base_url)
    return emulator


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DEEPSEEK_API_KEY", "DEEPSEEK_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> RunsCLI:
    """Runs the command in a thread of this process, its streams in memory."""

    async def run(*argv: object, stdin: bytes = b"") -> Finished:
        out, err = io.BytesIO(), io.BytesIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", _text(io.BytesIO(stdin)))
            patch.setattr(sys, "stdout", stdout := _text(out))
            patch.setattr(sys, "stderr", stderr := _text(err))
            code = await asyncio.to_thread(main, [str(arg) for arg in argv])
            stdout.flush()
            stderr.flush()
        finished = Finished(code, out.getvalue().decode(), err.getvalue().decode())
        assert KEY not in finished.out + finished.err
        return finished

    return run


def _text(buffer: io.BytesIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(buffer, encoding="utf-8", newline="")


@pytest.fixture
def process() -> RunsCLI:
    """Runs the command as a process of its own, its streams being pipes."""

    async def run(*argv: object, stdin: bytes = b"") -> Finished:
        child = await asyncio.create_subprocess_exec(
            *COMMAND,
            *map(str, argv),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(LIMIT):
            out, err = await child.communicate(stdin)
        assert child.returncode is not None
        assert KEY.encode() not in out + err
        return Finished(child.returncode, out.decode(), err.decode())

    return run


class Terminal:
    """The command on a pseudo-terminal of 80 columns."""

    def __init__(self, master: int, child: asyncio.subprocess.Process) -> None:
        self._master = master
        self._child = child
        self._grown = asyncio.Event()
        self._seen = 0
        self.screen = b""
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # the child has closed its side
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._master)
        self.screen += data
        self._grown.set()

    async def shows(self, text: str) -> None:
        """Wait until `text` appears after what was waited for before."""
        async with asyncio.timeout(LIMIT):
            while (at := self.screen.find(text.encode(), self._seen)) < 0:
                self._grown.clear()
                await self._grown.wait()
        self._seen = at + len(text.encode())

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.type("\x03")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._child.send_signal(number)

    async def interrupted(self) -> int:
        """Press Ctrl-C at a prompt, as a person does: again, if nothing happens.

        A signal that comes after readline has drawn its prompt and before it waits for
        a key is seen at the next key only.
        """
        while True:
            self.interrupt()
            with suppress(TimeoutError):
                async with asyncio.timeout(LIMIT / 10):
                    return await self.ends()

    async def ends(self) -> int:
        """Wait for the end and return the exit code."""
        async with asyncio.timeout(LIMIT):
            code = await self._child.wait()
        self._read_rest()
        assert b"Traceback" not in self.screen
        return code

    def _read_rest(self) -> None:
        os.set_blocking(self._master, False)
        while True:
            try:
                data = os.read(self._master, 65_536)
            except OSError:
                return
            if not data:
                return
            self.screen += data


Opens = Callable[..., Any]  # an async context manager over a Terminal


@pytest.fixture
def terminal() -> Opens:
    """Starts the command on a pseudo-terminal."""

    @asynccontextmanager
    async def start(
        *argv: object, env: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Terminal, None]:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        child = await asyncio.create_subprocess_exec(
            *COMMAND,
            *map(str, argv),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm-256color", **(env or {})},
            preexec_fn=_own_terminal,
        )
        os.close(slave)
        opened = Terminal(master, child)
        try:
            yield opened
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
            asyncio.get_running_loop().remove_reader(master)
            os.close(master)

    return start


def _own_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
