"""Models on offer and the money left.

https://api-docs.deepseek.com/api/list-models and
https://api-docs.deepseek.com/api/get-user-balance
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from msgspec import Struct

from .meta import Answer


class EffortLevels(Struct, kw_only=True, frozen=True):
    """Reasoning efforts a model takes.

    Attributes:
        supported_levels: Their names.
        default_level: The one used when none is asked for.
    """

    supported_levels: list[str] = []
    default_level: str | None = None


class Model(Answer, kw_only=True, dict=True, forbid_unknown_fields=True):
    """A model on offer; fields the server adds later are in `extra`.

    Attributes:
        id: The name to send as `model`.
        object: `"model"`.
        owned_by: The owner.
        name: The name to show.
        context_window: Tokens of input and output together.
        max_output_tokens: Tokens of output.
        input_modalities: Such as `text`, `image`.
        output_modalities: Such as `text`.
        effort: Reasoning efforts.
        api_capabilities: What the other wire formats of this model can do.
    """

    id: str = ""
    object: str = "model"
    owned_by: str | None = None
    name: str | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    input_modalities: list[str] | None = None
    output_modalities: list[str] | None = None
    effort: EffortLevels | None = None
    api_capabilities: dict[str, Any] | None = None


class ModelList(Answer, kw_only=True, dict=True):
    """The models on offer; iterate over it, or read `data`."""

    object: str = "list"
    data: list[Model] = []

    def __iter__(self) -> Iterator[Model]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


class BalanceInfo(Struct, kw_only=True, frozen=True):
    """Money left in one currency; the amounts are strings on the wire.

    Attributes:
        currency: `CNY` or `USD`.
        total_balance: Granted and topped up together.
        granted_balance: Gifts, spent first.
        topped_up_balance: Payments.
    """

    currency: str = ""
    total_balance: str = ""
    granted_balance: str = ""
    topped_up_balance: str = ""

    @property
    def total(self) -> Decimal:
        """The total as a number; 0 where the server sent none."""
        try:
            return Decimal(self.total_balance)
        except InvalidOperation:
            return Decimal(0)


class Balance(Answer, kw_only=True, dict=True):
    """Money left.

    Attributes:
        is_available: Whether the balance allows calls.
        balance_infos: One entry per currency.
    """

    is_available: bool = False
    balance_infos: list[BalanceInfo] = []
