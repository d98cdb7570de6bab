"""Looks for a secret wherever a traceback, a log or a crash reporter would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

_TESTS = str(Path(__file__).parent)


def chain(error: BaseException) -> list[BaseException]:
    """The error and everything reachable as its cause, context or member."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or one in found:
            continue
        found.append(one)
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
    return found


def _frames(traceback: TracebackType | None) -> Iterator[tuple[str, object]]:
    """Every local of every frame, those of the tests themselves left out."""
    while traceback is not None:
        frame = traceback.tb_frame
        if not frame.f_code.co_filename.startswith(_TESTS):
            for name, value in list(frame.f_locals.items()):
                yield f"{frame.f_code.co_qualname} local {name}", value
        traceback = traceback.tb_next


def _places(error: BaseException) -> Iterator[tuple[str, object]]:
    for one in chain(error):
        kind = type(one).__name__
        yield f"{kind} text", str(one)
        yield f"{kind} repr", one
        for name, value in vars(one).items():
            yield f"{kind}.{name}", value
        yield from (
            (f"{kind}: {where}", it) for where, it in _frames(one.__traceback__)
        )


def leaks(error: BaseException, *secrets: str) -> list[str]:
    """Where any of the secrets shows.

    Args:
        error: A caught exception, its traceback still attached.
        secrets: Texts that must show nowhere.

    Returns:
        The places, none if all is well.
    """
    found: list[str] = []
    for where, value in _places(error):
        try:
            shown = repr(value)
        except Exception as failure:  # noqa: BLE001 - a half-made object
            shown = repr(failure)
        found += [where for secret in secrets if secret in shown]
    return found
