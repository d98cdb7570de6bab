"""The clients compared, one module each, imported only in its own process."""

import importlib

from .base import LostDataError, Peer

#: name in the tables -> module and class
PEERS = {
    "aiohttp": "floor:RawAiohttp",
    "aiohttp+msgspec": "floor:TypedAiohttp",
    "deepseek_async": "ours:Chunks",
    "deepseek_async text()": "ours:Text",
    "openai httpx2": "openai_client:OverHttpx",
    "openai aiohttp": "openai_client:OverAiohttp",
}
#: measured with live streams only: what their ratios are bounded by
LOOP_ALONE = {"event loop alone": "loop_alone:LoopAlone"}
FLOOR = "aiohttp"
OPENAI = ("openai httpx2", "openai aiohttp")

__all__ = [
    "FLOOR",
    "LOOP_ALONE",
    "OPENAI",
    "PEERS",
    "LostDataError",
    "Peer",
    "peer_class",
]


def peer_class(name: str) -> type[Peer]:
    """Import the peer called `name` and nothing of the others.

    Raises:
        KeyError: no peer is called so.
        ImportError: the peer is not installed.
    """
    module, _, attribute = (PEERS | LOOP_ALONE)[name].partition(":")
    found: type[Peer] = getattr(
        importlib.import_module(f".{module}", __name__), attribute
    )
    return found
