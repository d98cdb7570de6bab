"""The driver: a server process, client processes, rounds in turn."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from . import instructions
from .certificate import make_certificate

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
CLIENT_CORE, SERVER_CORE = (CORES[0], CORES[-1]) if len(CORES) > 1 else (-1, -1)

Figures = dict[str, float]
Order = Mapping[str, object]


class OperationFailedError(Exception):
    """A client process could not do what it was told."""


class Process:
    """A child that speaks JSON lines and ends when its input closes."""

    def __init__(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.child = subprocess.Popen(
            [*prefix, sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self.hello = self.receive()

    def receive(self) -> dict[str, float]:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if not line:
            message = f"a benchmark process ended with {self.child.wait()}"
            raise OperationFailedError(message)
        answer: dict[str, float] = json.loads(line)
        if "error" in answer:
            raise OperationFailedError(answer["error"])
        return answer

    def order(self, order: Order) -> dict[str, float]:
        """Send one order and wait for its figures."""
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps(order) + "\n")
        self.child.stdin.flush()
        return self.receive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                pipe.close()
        self.child.wait(timeout=30)


class Lab:
    """The server, and a fresh client process for whoever asks."""

    def __init__(self, server: Process, certificate: Path) -> None:
        self.ports = server.hello
        self.certificate = certificate

    def client(
        self, peer: str, loop: str, *, tls: bool = False, counting: Path | None = None
    ) -> Process:
        """Start the process of one peer.

        Args:
            peer: Its name in the tables.
            loop: `asyncio` or `uvloop`.
            tls: Whether it speaks TLS.
            counting: Count instructions, with this folder for callgrind's dumps.
        """
        scheme = "https" if tls else "http"
        env = {"SSL_CERT_FILE": str(self.certificate)}
        env |= instructions.environment(counting) if counting else {}
        return Process(
            "benchmarks.worker",
            peer,
            loop,
            str(CLIENT_CORE),
            f"{scheme}://127.0.0.1:{self.ports[scheme]}",
            str(self.ports["control"]),
            env=env,
            prefix=instructions.command(counting) if counting else (),
        )

    def rounds(
        self,
        orders: Mapping[str, Order],
        rounds: int,
        loop: str,
        *,
        tls: bool = False,
    ) -> dict[str, list[dict[str, float]]]:
        """Let every peer carry out its order `rounds` times, all in turn.

        Args:
            orders: Name of the peer to its order.
            rounds: How many turns each peer has.
            loop: `asyncio` or `uvloop`.
            tls: Whether the peers speak TLS.
        """
        clients = {peer: self.client(peer, loop, tls=tls) for peer in orders}
        samples: dict[str, list[dict[str, float]]] = {peer: [] for peer in orders}
        try:
            for turn in range(rounds):
                for peer in rotated(orders, turn):
                    samples[peer].append(clients[peer].order(orders[peer]))
        finally:
            for client in clients.values():
                client.__exit__()
        return samples


def rotated(names: Iterable[str], turn: int) -> list[str]:
    """Return the names, another one first each turn."""
    listed = list(names)
    turn %= len(listed)
    return listed[turn:] + listed[:turn]


@contextmanager
def open_lab() -> Generator[Lab]:
    """Start the server and stop it at the end."""
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = make_certificate(Path(folder))
        server = Process(
            "benchmarks.server",
            *("--certificate", str(certificate), "--key", str(key)),
            *("--core", str(SERVER_CORE)),
        )
        with server:
            yield Lab(server, certificate)
