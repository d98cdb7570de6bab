"""Sends identical requests once, where the user says that one answer serves all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, cast

from ..types.chat import ChatCompletion
from .item import Item

_REMEMBERED: Final = 1_000


class Twins:
    """Finds requests with the same body, under way or among the latest answered.

    Only requests at temperature 0 count; what they answer is remembered for the
    latest 1,000.
    """

    __slots__ = ("_answered", "_leaders")

    def __init__(self) -> None:
        self._leaders: dict[bytes, Item] = {}
        self._answered: OrderedDict[bytes, ChatCompletion] = OrderedDict()

    def answer_for(self, item: Item) -> ChatCompletion | None:
        """The answer that an identical request got, if it did."""
        return self._answered.get(item.wire.body)

    def follows(self, item: Item) -> bool:
        """Whether an identical request is under way, whose answer will serve."""
        leader = self._leaders.setdefault(item.wire.body, item)
        if leader is item:
            return False
        if leader.followers is None:
            leader.followers = []
        leader.followers.append(item)
        return True

    def leave(self, item: Item) -> None:
        """Wait for the answer to an identical request no longer."""
        leader = self._leaders.get(item.wire.body)
        if leader is not None and leader.followers and item in leader.followers:
            leader.followers.remove(item)

    def answered(self, item: Item, completion: ChatCompletion) -> list[Item]:
        """Remember an answer; returns the requests that waited for it."""
        if self._leaders.pop(item.wire.body, None) is None:
            return []
        self._answered[item.wire.body] = completion
        if len(self._answered) > _REMEMBERED:
            self._answered.popitem(last=False)
        followers, item.followers = item.followers or [], None
        return followers

    def failed(self, item: Item) -> list[Item]:
        """Forget a request that failed; those that waited go themselves."""
        if self._leaders.get(item.wire.body) is item:
            del self._leaders[item.wire.body]
        followers, item.followers = item.followers or [], None
        return followers


def is_deterministic(params: Mapping[str, Any]) -> bool:
    """Whether a request asks for temperature 0."""
    return body_fields(params).get("temperature") == 0


def body_fields(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a request with what `extra_body` puts in their place."""
    extra = params.get("extra_body")
    if extra is None or not isinstance(extra, Mapping):
        return params
    return {**params, **cast("Mapping[str, Any]", extra)}
