"""`deepseek-async serve`: the emulator as a server of its own."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from typing import Annotated

import typer

from ..testing import DeepSeekEmulator, Pace
from .console import end
from .exits import CommandError, ExitCode


def serve(
    *,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, metavar="N", help="Port; 0 takes a free one."),
    ] = 8787,
    latency: Annotated[
        float, typer.Option(min=0, metavar="S", help="Seconds to the first token.")
    ] = Pace().latency,
    speed: Annotated[
        float,
        typer.Option(
            "--tokens-per-second",
            min=0,
            metavar="N",
            help="Of each answer; 0: all at once.",
        ),
    ] = Pace().tokens_per_second,
    queue: Annotated[
        float,
        typer.Option(
            min=0, metavar="S", help="Seconds in the queue, with keep-alives."
        ),
    ] = 0.0,
    concurrency_limit: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Requests at once; above it comes a 429."
        ),
    ] = 2500,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Another seed gives other answers.")
    ] = 0,
) -> int:
    """Serve an emulated DeepSeek API until Ctrl-C."""
    emulator = DeepSeekEmulator(
        host=host,
        port=port,
        pace=Pace(latency=latency, tokens_per_second=speed, queue=queue),
        concurrency_limit=concurrency_limit,
        seed=seed,
    )
    try:
        asyncio.run(_serve(emulator))
    except OSError as error:
        message = f"cannot listen on {host}:{port}: {error.strerror or error}"
        raise CommandError(message) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        end("stopped")
    return ExitCode.OK


async def _serve(emulator: DeepSeekEmulator) -> None:
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    # What ends a server that was not started from a terminal; Windows and threads
    # other than the main one do without.
    with suppress(NotImplementedError, RuntimeError):
        loop.add_signal_handler(signal.SIGTERM, task.cancel if task else loop.stop)
    await emulator.serve_forever(_announce)


def _announce(emulator: DeepSeekEmulator) -> None:
    sys.stdout.write(
        f"DEEPSEEK_BASE_URL={emulator.base_url}\nDEEPSEEK_API_KEY={emulator.api_key}\n"
    )
    sys.stdout.flush()
    sys.stderr.write("serving an emulated DeepSeek API; Ctrl-C stops\n")
