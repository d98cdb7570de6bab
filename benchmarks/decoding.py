"""Every peer's way from the bytes of a stream to typed chunks, without a network."""

from collections.abc import Callable, Sequence

from . import payloads
from .peers import floor_types

Decode = Callable[[Sequence[bytes]], int]


def cut(body: bytes, size: int) -> list[bytes]:
    """Return `body` in reads of `size` bytes."""
    return [body[start : start + size] for start in range(0, len(body), size)]


def by_hand() -> Decode:
    """Split at blank lines, decode with msgspec; quadratic if nothing ever ends."""

    def decode(pieces: Sequence[bytes]) -> int:
        count, rest = 0, b""
        for piece in pieces:
            *events, rest = (rest + piece).split(b"\n\n")
            for event in events:
                if event != b"data: [DONE]":
                    floor_types.decode_chunk(event[6:])
                    count += 1
        return count

    return decode


def ours_events() -> Decode:
    """Return `SSEDecoder` alone: events, not yet decoded."""
    from deepseek_async.sse import SSEDecoder  # noqa: PLC0415

    def decode(pieces: Sequence[bytes]) -> int:
        decoder = SSEDecoder()
        return sum(len(decoder.feed(piece)) for piece in pieces) - 1

    return decode


def ours() -> Decode:
    """Return the reader behind `ChatStream`: bytes to typed chunks."""
    from deepseek_async.chunks import PayloadReader  # noqa: PLC0415
    from deepseek_async.codec import CHAT_CHUNK  # noqa: PLC0415

    def decode(pieces: Sequence[bytes]) -> int:
        reader = PayloadReader(CHAT_CHUNK, max_event_size=2**20)
        return sum(len(reader.feed(piece)) for piece in pieces)

    return decode


def openai() -> Decode:
    """Return what openai's `AsyncStream` does: its decoder, JSON, pydantic."""
    from openai._models import construct_type  # noqa: PLC0415
    from openai._streaming import SSEDecoder  # noqa: PLC0415
    from openai.types.chat import ChatCompletionChunk  # noqa: PLC0415

    def decode(pieces: Sequence[bytes]) -> int:
        count = 0
        for event in SSEDecoder().iter_bytes(iter(pieces)):
            if not event.data.startswith("[DONE]"):
                construct_type(type_=ChatCompletionChunk, value=event.json())
                count += 1
        return count

    return decode


DECODERS: dict[str, Callable[[], Decode]] = {
    "msgspec by hand": by_hand,
    "deepseek_async SSEDecoder": ours_events,
    "deepseek_async chunks": ours,
    "openai": openai,
}


def answer(chunks: int) -> bytes:
    """Return the bytes of a stream of `chunks` chunks."""
    return payloads.sse_body(payloads.answer_events(chunks))
