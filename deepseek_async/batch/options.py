"""The options of a batch, beside the three that most batches need."""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from difflib import get_close_matches
from math import inf
from typing import Any, Final, Literal, Self, TypeAlias, TypedDict, cast

from msgspec import Struct

from ..errors import ConfigurationError
from ..metering import price_table
from ..pricing import PRICES, Price
from ..retry import RetryPolicy
from .budget import Budget
from .progress import Progress
from .rates import Rates
from .template import KeyOf, Reading, Template

PATIENT: RetryPolicy = RetryPolicy(attempts=6, base=0.5, cap=30.0, timeouts=True)
"""How a batch retries if neither its client nor its request say otherwise."""


class BatchOptions(TypedDict, total=False):
    """Further options of `AsyncDeepSeek.batch`.

    Attributes:
        request: How a row becomes a request: a function of the row, a mapping of
            parameters with `{column}` places in its texts, or one such text as the
            user message. Not needed for rows that are requests or lines of OpenAI's
            batch format.
        key: The column, or a function of the row, that gives the key.
        defaults: Parameters of every request that does not bring its own.
        overrides: Parameters of every request, whatever it brings, such as a `model`
            for a file that was made for another API.
        total: How many rows there are, where that is known and cannot be seen; a
            display shows it from the start.
        retry: The retry policy of requests that bring none; refusals with 429 do not
            count as attempts unless it allows one attempt only.
        retry_failed: Whether a resumed run tries failed requests again; on by default.
        budget: Ceilings; see `Budget`.
        deadline: Seconds a request may take from its first attempt, retries included.
        off_peak: Whether to send at off-peak prices only, and wait meanwhile.
        rates: Requests and tokens per minute, for other endpoints.
        prices: A price table in place of the built-in one.
        prefix_order: Whether requests with a common beginning of 4 KiB or more are
            sent so that the server's cache serves them: two first, then the rest.
            On by default; has no effect with `order="input"`.
        dedupe: Whether identical requests at temperature 0 are sent once.
        shard: `(i, n)`: only the rows whose key falls in part i of n.
        progress: `True` for a display on stderr, or a function that is given a
            `Progress` twice a second.
        signals: Whether Ctrl-C and SIGTERM first drain the batch, then stop it.
        patience: Seconds without any answer from the server after which to stop.
    """

    request: Template | None
    key: KeyOf | None
    defaults: Mapping[str, Any] | None
    overrides: Mapping[str, Any] | None
    total: int | None
    retry: RetryPolicy | None
    retry_failed: bool
    budget: Budget | None
    deadline: float | None
    off_peak: bool
    rates: Rates | None
    prices: Mapping[str, Price] | None
    prefix_order: bool
    dedupe: bool
    shard: tuple[int, int]
    progress: bool | Callable[[Progress], None] | None
    signals: bool
    patience: float


class Settings(Struct, kw_only=True):
    """Checked options of a batch."""

    order: Literal["completed", "input"] = "completed"
    journal: str | os.PathLike[str] | None = None
    request: Template | None = None
    key: KeyOf | None = None
    defaults: Mapping[str, Any] | None = None
    overrides: Mapping[str, Any] | None = None
    total: int | None = None
    retry: RetryPolicy | None = None
    retry_failed: bool = True
    budget: Budget | None = None
    deadline: float | None = None
    off_peak: bool = False
    rates: Rates | None = None
    prices: Mapping[str, Price] | None = None
    prefix_order: bool = True
    dedupe: bool = False
    shard: tuple[int, int] = (0, 1)
    progress: bool | Callable[[Progress], None] | None = None
    signals: bool = False
    patience: float = 600.0
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __post_init__(self) -> None:
        for name, (fits, what) in _CHECKS.items():
            value: object = getattr(self, name)
            if value is None and name not in _NEVER_NONE:
                continue
            if not fits(value):
                message = f"{name} must be {what}"
                raise ConfigurationError(message)
        if self.prices is not None:
            self.prices = price_table(self.prices)
        if (
            self.budget is not None
            and self.budget.max_cost is not None
            and Decimal(str(self.budget.max_cost)) <= 0
        ):
            message = "Budget.max_cost must be more than 0"
            raise ConfigurationError(message)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Check options.

        Raises:
            ConfigurationError: One is unknown or makes no sense.
        """
        for name in sorted(options.keys() - _NAMES):
            close = get_close_matches(name, _NAMES, n=1)
            hint = f": did you mean {close[0]}?" if close else ""
            message = f"batch() knows no option {name!r}{hint}"
            raise ConfigurationError(message)
        return cls(**options)

    def reading(self) -> Reading:
        """What makes requests of rows.

        Raises:
            ConfigurationError: The template makes no sense.
        """
        return Reading(self.request, self.key, self.defaults, self.overrides)

    @property
    def price_table(self) -> Mapping[str, Price]:
        """The prices to count with."""
        return PRICES if self.prices is None else self.prices


_NAMES: Final = frozenset(
    {*BatchOptions.__annotations__, "concurrency", "order", "journal", "now"}
)


def _is_shard(value: object) -> bool:
    if not isinstance(value, tuple | list):
        return False
    parts = list(cast("Sequence[object]", value))
    if len(parts) != 2 or not all(type(part) is int for part in parts):  # noqa: PLR2004
        return False
    part, count = cast("list[int]", parts)
    return 0 <= part < count


def _is_seconds(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 < value < inf


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


_Check: TypeAlias = tuple[Callable[[object], bool], str]
_FLAG: Final[_Check] = (lambda value: isinstance(value, bool), "True or False")
_SECONDS: Final[_Check] = (_is_seconds, "a positive number of seconds")
_PARAMS: Final[_Check] = (
    lambda value: isinstance(value, Mapping),
    "a mapping of parameters",
)

_NEVER_NONE: Final = frozenset(
    {"dedupe", "off_peak", "order", "patience", "prefix_order", "retry_failed"}
    | {"shard", "signals"}
)

_CHECKS: Final[Mapping[str, _Check]] = {
    "order": (
        lambda value: isinstance(value, str) and value in {"completed", "input"},
        "'completed' or 'input'",
    ),
    "journal": (
        lambda value: isinstance(value, str | os.PathLike),
        "the path of a directory",
    ),
    "key": (
        lambda value: isinstance(value, str) or callable(value),
        "the name of a column, or a function of the row",
    ),
    "defaults": _PARAMS,
    "overrides": _PARAMS,
    "total": (_is_count, "a whole number of rows, 0 or more"),
    "retry": (
        lambda value: isinstance(value, RetryPolicy),
        "a RetryPolicy, such as RetryPolicy(attempts=3)",
    ),
    "retry_failed": _FLAG,
    "budget": (
        lambda value: isinstance(value, Budget),
        "a Budget, such as Budget(max_cost=5)",
    ),
    "deadline": _SECONDS,
    "off_peak": _FLAG,
    "rates": (
        lambda value: isinstance(value, Rates),
        "a Rates, such as Rates(requests_per_minute=60)",
    ),
    "prefix_order": _FLAG,
    "dedupe": _FLAG,
    "shard": (_is_shard, "(i, n), whole numbers with 0 <= i < n"),
    "progress": (
        lambda value: isinstance(value, bool) or callable(value),
        "True, False or a function that is given a Progress",
    ),
    "signals": _FLAG,
    "patience": _SECONDS,
}
"""What each option must be; `request` and `prices` have checks of their own."""
