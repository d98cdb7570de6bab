"""Decoders that several threads need at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import msgspec
import pytest

from deepseek_async.codec import Codec
from deepseek_async.types import ChatCompletion


def test_one_thread_at_a_time_makes_a_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one waits, for msgspec is not ready for two."""
    together = threading.Barrier(2)
    alone: list[bool] = []

    make = msgspec.json.Decoder

    def making(*args: Any, **kwargs: Any) -> Any:
        try:
            together.wait(0.2)
        except threading.BrokenBarrierError:
            alone.append(True)
        return make(*args, **kwargs)

    monkeypatch.setattr(msgspec.json, "Decoder", making)
    codecs = [Codec(ChatCompletion) for _ in range(2)]
    threads = [threading.Thread(target=one.decode, args=(b"{}",)) for one in codecs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert alone == [True, True]


FIRST_USE = """
import sys, threading
sys.setswitchinterval(1e-6)
from deepseek_async.codec import CHAT, CHAT_CHUNK
from deepseek_async.request import chat_request
start = threading.Barrier(12)
asked = {"model": "m", "messages": [{"role": "user", "content": "q"}]}
data = b'{"id":"x","choices":[{"index":0,"message":{"content":"hi"}}]}'
def use(number):
    start.wait()
    for _ in range(20):
        (CHAT if number % 2 else CHAT_CHUNK).decode(data)
        chat_request(asked).body
threads = [threading.Thread(target=use, args=(number,)) for number in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("done")
"""


def test_threads_use_everything_for_the_first_time_together() -> None:
    """As many event loops do that begin at once."""
    for _ in range(3):
        ran = subprocess.run(  # noqa: S603 - this interpreter
            [sys.executable, "-c", FIRST_USE],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ran.returncode, ran.stdout) == (0, "done\n"), ran.stderr
