"""The models on offer, their limits and prices.

Facts: https://api-docs.deepseek.com/quick_start/pricing
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

from .wire import NOT_FOUND, Body, WireError

MAX_OUTPUT: Final = 393_216
CONTEXT: Final = 1_048_576
_MILLION: Final = Decimal(1_000_000)


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One model name that a request may carry.

    Attributes:
        name: The name that answers carry.
        thinks: Whether it thinks when the request does not say.
        prices: US dollars per million tokens off-peak: cached input, other input,
            output.
        retired: Whether the real service has withdrawn the name.
    """

    name: str
    thinks: bool = True
    prices: tuple[Decimal, Decimal, Decimal]
    retired: bool = False

    def cost(self, usage: Body) -> Decimal:
        """Return the price of an answer in US dollars, at off-peak rates."""
        counts = (
            usage["prompt_cache_hit_tokens"],
            usage["prompt_cache_miss_tokens"],
            usage["completion_tokens"],
        )
        pairs = zip(counts, self.prices, strict=True)
        return sum((n * price for n, price in pairs), Decimal()) / _MILLION


_FLASH = (Decimal("0.003"), Decimal("0.15"), Decimal("0.60"))
_PRO = (Decimal("0.022"), Decimal("0.66"), Decimal("1.98"))
_FLASH_MODEL = Model(name="deepseek-flash", prices=_FLASH)

MODELS: Final = {
    "deepseek-flash": _FLASH_MODEL,
    "deepseek-v4-pro": Model(name="deepseek-v4-pro", prices=_PRO),
    "deepseek-v4-flash": _FLASH_MODEL,
    "deepseek-v4-flash-vision-exp": _FLASH_MODEL,
    "deepseek-chat": Model(
        name="deepseek-chat", thinks=False, prices=_FLASH, retired=True
    ),
    "deepseek-reasoner": Model(name="deepseek-reasoner", prices=_FLASH, retired=True),
}


def find_model(name: object, *, accept_retired: bool) -> Model:
    """Return the model called `name`.

    Raises:
        WireError: 400 when the service does not serve that name.
    """
    model = MODELS.get(name) if isinstance(name, str) else None
    if model is None or (model.retired and not accept_retired):
        served = "deepseek-flash, deepseek-v4-pro"
        raise WireError(
            400,
            f"The supported API model names are {served}, but you passed {name}.",
        )
    return model


def _entry(name: str, title: str, modalities: list[str]) -> Body:
    return {
        "id": name,
        "object": "model",
        "owned_by": "deepseek",
        "name": title,
        "context_window": CONTEXT,
        "max_output_tokens": MAX_OUTPUT,
        "input_modalities": modalities,
        "output_modalities": ["text"],
        "effort": {"supported_levels": ["low", "high", "max"], "default_level": "high"},
        "api_capabilities": {
            "anthropic_messages": {"system_prompt_update": "in-history"}
        },
    }


ENTRIES: Final = {
    "deepseek-flash": _entry("deepseek-flash", "DeepSeek Flash", ["text", "image"]),
    "deepseek-v4-pro": _entry("deepseek-v4-pro", "DeepSeek V4 Pro", ["text"]),
}


def list_models() -> Body:
    """Return the answer of ``GET /models``."""
    return {"object": "list", "data": list(ENTRIES.values())}


def retrieve_model(name: str) -> Body:
    """Return the answer of ``GET /models/{name}``.

    Raises:
        WireError: 404 when there is no such model.
    """
    if name not in ENTRIES:
        raise WireError(NOT_FOUND, f"Model {name} does not exist")
    return ENTRIES[name]
