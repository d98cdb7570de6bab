"""Prices, the meter, the spend limit: against the emulator where calls are made."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from deepseek_async import (
    PRICES,
    APIStatusError,
    AsyncDeepSeek,
    BatchResult,
    BatchStoppedError,
    ChatCompletion,
    ChatCompletionParams,
    ConfigurationError,
    Price,
    PromptTokensDetails,
    RetryPolicy,
    SavedConversationError,
    SpendLimitError,
    StreamInterruptedError,
    Summarize,
    Totals,
    Usage,
    UsageMeter,
    tool,
)
from deepseek_async.metering import OTHER_TAGS
from deepseek_async.pricing import HOLIDAYS, Bill, is_peak
from deepseek_async.testing import (
    Answer,
    Call,
    Cut,
    DeepSeekEmulator,
    Pace,
    Stall,
    Status,
)

MESSAGES = [{"role": "user", "content": "Where does the Rhine begin?"}]
ASK: ChatCompletionParams = {"model": "deepseek-flash", "messages": MESSAGES}
OFF_PEAK = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)  # a Saturday
PEAK = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)  # the Friday before
USAGE = Usage(
    prompt_tokens=3_000_000,
    completion_tokens=1_000_000,
    total_tokens=4_000_000,
    prompt_cache_hit_tokens=1_000_000,
    prompt_cache_miss_tokens=2_000_000,
)


@pytest.fixture
async def emulator() -> AsyncIterator[DeepSeekEmulator]:
    async with DeepSeekEmulator(pace=Pace.instant()) as running:
        yield running


def client_of(emulator: DeepSeekEmulator, **options: Any) -> AsyncDeepSeek:
    return AsyncDeepSeek(
        api_key=emulator.api_key, base_url=emulator.base_url, **options
    )


# -- the price table ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "at", "expected"),
    [
        ("deepseek-flash", OFF_PEAK, "0.903"),
        ("deepseek-flash", PEAK, "1.806"),
        ("deepseek-v4-pro", OFF_PEAK, "3.322"),
        ("deepseek-v4-pro", PEAK, "6.644"),
        ("deepseek-chat", OFF_PEAK, "0.903"),
    ],
)
def test_usage_costs_what_the_price_page_says(
    model: str, at: datetime, expected: str
) -> None:
    """Hits, misses and output each have their price, doubled at peak hours."""
    assert USAGE.cost(model, at=at) == Decimal(expected)


@pytest.mark.parametrize(
    ("hour", "minute", "expected"),
    [
        (0, 59, False),
        (1, 0, True),
        (3, 59, True),
        (4, 0, False),
        (5, 59, False),
        (6, 0, True),
        (9, 59, True),
        (10, 0, False),
    ],
)
def test_peak_hours_begin_and_end_on_the_hour(
    hour: int, minute: int, *, expected: bool
) -> None:
    """Peak is 01:00-04:00 and 06:00-10:00 UTC on a working day, ends excluded."""
    at = PEAK.replace(hour=hour, minute=minute)

    assert is_peak(at) is expected
    assert is_peak(at.astimezone(timezone(timedelta(hours=-7)))) is expected
    assert is_peak(at + timedelta(days=1)) is False


def test_a_public_holiday_has_no_peak_hours() -> None:
    """On a Chinese public holiday all hours are off-peak."""
    holiday = datetime(2026, 10, 1, 2, tzinfo=UTC)

    assert holiday.date() in HOLIDAYS
    assert not is_peak(holiday)
    assert is_peak(holiday, holidays=())


def test_a_time_without_a_zone_is_refused() -> None:
    """A naive time could mean any hour, so it is not priced."""
    with pytest.raises(ValueError, match="time zone"):
        USAGE.cost("deepseek-flash", at=datetime(2026, 11, 20, 2))  # noqa: DTZ001


def test_an_unknown_model_has_no_cost() -> None:
    """No price is invented for a model that is not in the table."""
    assert USAGE.cost("deepseek-next") is None
    assert ChatCompletion(model="deepseek-next", usage=USAGE).cost is None
    assert ChatCompletion(model="deepseek-flash").cost is None


def test_a_price_table_can_be_replaced() -> None:
    """A table of one's own is used instead of, not beside, the built-in one."""
    price = Price(cache_hit=Decimal(1), cache_miss=Decimal(2), output=Decimal(3))

    assert USAGE.cost("new", at=OFF_PEAK, prices={"new": price}) == Decimal(8)
    assert USAGE.cost("deepseek-flash", at=OFF_PEAK, prices={"new": price}) is None


def test_counts_that_make_no_sense_never_give_money_back() -> None:
    """Negative counts from a server are worth nothing."""
    bad = Usage(
        prompt_tokens=-5, completion_tokens=-7_000_000, prompt_cache_hit_tokens=-1
    )
    meter = UsageMeter()
    meter.count(Bill(model="deepseek-flash", at=0.0), bad, None)

    assert bad.cost("deepseek-flash") == 0
    assert meter.total.usage.total_tokens == 0
    assert meter.spent == 0


def test_cached_tokens_are_found_wherever_they_are_reported() -> None:
    """The details' `cached_tokens` price like `prompt_cache_hit_tokens`."""
    detailed = Usage(
        prompt_tokens=3_000_000,
        completion_tokens=1_000_000,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=1_000_000),
    )

    assert detailed.cost("deepseek-flash", at=PEAK) == Decimal("1.806")


def test_an_answer_from_elsewhere_is_priced_by_its_own_time() -> None:
    """A completion that no client received is priced by `created` and `model`."""
    made = ChatCompletion(
        model="deepseek-flash", created=int(PEAK.timestamp()), usage=USAGE
    )
    absurd = ChatCompletion(model="deepseek-flash", created=2**62, usage=USAGE)

    assert made.cost == Decimal("1.806")
    assert absurd.cost == Decimal("1.806")


# -- the meter ---------------------------------------------------------------------


async def test_an_answer_knows_its_cost(emulator: DeepSeekEmulator) -> None:
    """`completion.cost` is what its usage costs at the time it was asked for."""
    async with client_of(emulator) as client:
        before = datetime.now(UTC)
        completion = await client.chat.completions.create(**ASK)

        assert completion.usage is not None
        assert completion.cost in {
            completion.usage.cost("deepseek-flash", at=at)
            for at in (before, datetime.now(UTC))
        }
        assert completion.cost
        assert client.meter.spent == completion.cost
        assert pickle.loads(pickle.dumps(completion)).cost == completion.cost  # noqa: S301


async def test_the_meter_agrees_with_the_account(emulator: DeepSeekEmulator) -> None:
    """What the meter says was spent is what the account was charged."""
    emulator.account.charge = True
    before = emulator.balance
    async with client_of(emulator) as client:
        for _ in range(3):
            await client.chat.completions.create(**ASK)
        async with await client.chat.completions.create(**ASK, stream=True) as stream:
            await stream.completion()
        await client.completions.create(model="deepseek-v4-pro", prompt="def f(")
        factor = 2 if is_peak(datetime.now(UTC)) else 1

        assert client.meter.spent == factor * (before - emulator.balance)
        assert client.meter.total.calls == 5


async def test_totals_are_kept_by_model_and_by_tag(emulator: DeepSeekEmulator) -> None:
    """Each call is counted under the model asked for and under its tag."""
    async with client_of(emulator) as client:
        ask = client.chat.completions.create
        first = await ask(model="deepseek-flash", messages=MESSAGES, tag="a")
        second = await ask(model="deepseek-v4-pro", messages=MESSAGES, tag="a")
        third = await ask(**ASK)
        meter = client.with_options(max_retries=0).meter

    assert first.usage is not None
    assert third.usage is not None
    assert second.cost is not None
    by_model, by_tag = meter.by_model(), meter.by_tag()
    assert {name: totals.calls for name, totals in by_model.items()} == {
        "deepseek-flash": 2,
        "deepseek-v4-pro": 1,
    }
    assert {name: totals.calls for name, totals in by_tag.items()} == {"a": 2, None: 1}
    assert by_model["deepseek-flash"].usage == first.usage + third.usage
    assert by_model["deepseek-v4-pro"].cost == second.cost
    assert meter.by_model_and_tag()["deepseek-v4-pro", "a"].cost == second.cost
    assert meter.total.cost == meter.spent == sum(t.cost for t in by_tag.values())


async def test_streams_count_when_complete(emulator: DeepSeekEmulator) -> None:
    """A stream read to its end counts once, however it was read."""
    async with client_of(emulator) as client:
        async with await client.chat.completions.create(**ASK, stream=True) as chat:
            async for _ in chat:
                pass
        fim = await client.completions.create(
            model="deepseek-flash", prompt="a", stream=True, tag="fim"
        )
        completion = await fim.completion()
        fim.abort()

        assert chat.usage is not None
        assert completion.cost is not None
        assert client.meter.by_tag()[None].usage.total_tokens == chat.usage.total_tokens
        assert client.meter.by_tag()["fim"].cost == completion.cost
        assert client.meter.total.calls == 2
        assert client.meter.total.unfinished == 0


async def test_a_stream_left_early_is_counted_as_unfinished(
    emulator: DeepSeekEmulator,
) -> None:
    """A stream cut or closed before its usage came is counted, without tokens."""
    emulator.script(Cut(events=5), Stall(after=3), Stall(after=3))
    async with client_of(emulator) as client:
        cut = await client.chat.completions.create(**ASK, stream=True)
        with pytest.raises(StreamInterruptedError):
            await cut.completion()
        left = await client.chat.completions.create(**ASK, stream=True)
        async for _ in left:
            break
        dropped = await client.chat.completions.create(**ASK, stream=True)
        del dropped
        while client.meter.total.calls < 3:  # noqa: ASYNC110 - the loop's own callback
            await asyncio.sleep(0)

        assert client.meter.total.unfinished == 3
        assert client.meter.total.usage.total_tokens == 0
        assert client.meter.spent == 0


async def test_a_stream_left_late_is_counted_in_full(
    emulator: DeepSeekEmulator,
) -> None:
    """A reader that stops after the usage has arrived has used it."""
    async with client_of(emulator) as client:
        async with await client.chat.completions.create(**ASK, stream=True) as stream:
            async for chunk in stream:
                if chunk.choices[0].finish_reason:
                    break

        assert stream.usage is not None
        assert client.meter.total.usage.total_tokens == stream.usage.total_tokens
        assert client.meter.spent


async def test_failed_calls_are_not_counted(emulator: DeepSeekEmulator) -> None:
    """A refusal costs nothing and is no answer."""
    emulator.script(Status(status=400), Status(status=500, stream=True))
    async with client_of(emulator, max_retries=0) as client:
        with pytest.raises(APIStatusError):
            await client.chat.completions.create(**ASK)
        with pytest.raises(APIStatusError):
            await client.chat.completions.create(**ASK, stream=True)

        assert client.meter.total == Totals()


async def test_unpriced_models_are_counted_apart(emulator: DeepSeekEmulator) -> None:
    """Without a price the tokens are counted, and the answer as `unpriced`."""
    async with client_of(emulator, prices={}) as client:
        completion = await client.chat.completions.create(**ASK)

        assert completion.cost is None
        assert completion.usage is not None
        assert client.meter.total.unpriced == 1
        assert client.meter.total.usage.total_tokens == completion.usage.total_tokens


async def test_a_client_has_its_own_prices(emulator: DeepSeekEmulator) -> None:
    """`prices=` reaches the answers, the meter, and a pickled answer."""
    dear = Price(
        cache_hit=Decimal(0),
        cache_miss=Decimal(0),
        output=Decimal(1_000_000),
        peak_factor=Decimal(1),
    )
    async with client_of(emulator, prices={"deepseek-flash": dear}) as client:
        completion = await client.chat.completions.create(**ASK)

        assert completion.usage is not None
        assert completion.cost == completion.usage.completion_tokens
        assert client.meter.spent == completion.cost
        assert pickle.loads(pickle.dumps(completion)).cost == completion.cost  # noqa: S301


async def test_reset_begins_anew(emulator: DeepSeekEmulator) -> None:
    """`reset` returns what had been counted and leaves nothing."""
    async with client_of(emulator) as client:
        completion = await client.chat.completions.create(
            model="deepseek-flash", messages=MESSAGES, tag="x"
        )
        counted = client.meter.reset()

        assert counted.calls == 1
        assert counted.cost == completion.cost
        assert client.meter.total == Totals()
        assert client.meter.spent == 0
        assert client.meter.by_tag() == {}


def test_the_meter_loses_nothing_among_threads() -> None:
    """Calls counted from many threads at once, with resets between, all count."""
    meter = UsageMeter()
    usage = Usage(prompt_tokens=3, completion_tokens=4, total_tokens=7)
    found: list[Totals] = []

    def work(number: int) -> None:
        for _ in range(500):
            meter.open("deepseek-flash", f"tag-{number % 3}").settle(usage)
        found.append(meter.reset())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    total = sum(found, meter.reset())
    assert total.calls == 4_000
    assert total.usage.total_tokens == 28_000


def test_tags_are_bounded() -> None:
    """A program that tags every call differently cannot fill the memory."""
    meter = UsageMeter(max_tags=2)
    for tag in ("a", "b", "c", "d", "a", None):
        meter.open("deepseek-flash", tag).settle(Usage())

    counted = {tag: totals.calls for tag, totals in meter.by_tag().items()}
    assert counted == {"a": 2, "b": 1, OTHER_TAGS: 2, None: 1}


# -- the limit ---------------------------------------------------------------------


async def test_a_spend_limit_refuses_further_calls(emulator: DeepSeekEmulator) -> None:
    """Past the limit every kind of completion is refused before a byte is sent."""
    async with client_of(emulator, spend_limit="0.000001") as client:
        await client.chat.completions.create(**ASK)
        sent = len(emulator.requests)
        with pytest.raises(SpendLimitError) as raised:
            await client.chat.completions.create(**ASK)
        with pytest.raises(SpendLimitError):
            await client.chat.completions.create(**ASK, stream=True)
        with pytest.raises(SpendLimitError):
            await client.completions.create(model="deepseek-flash", prompt="a")
        with pytest.raises(SpendLimitError):
            await client.with_options(max_retries=1).chat.completions.create(**ASK)
        refused: list[BatchResult] = []
        with pytest.raises(BatchStoppedError, match="spend limit"):  # noqa: PT012
            async with client.batch([ASK, ASK]) as results:
                async for result in results:
                    refused.append(result)  # noqa: PERF401 - raises at its end

        assert len(emulator.requests) == sent
        assert [result.ok for result in refused] == [False, False]
        assert raised.value.limit == Decimal("0.000001")
        assert raised.value.spent == client.meter.spent
        assert client.meter.remaining == 0
        copy = pickle.loads(pickle.dumps(raised.value))  # noqa: S301
        assert (copy.limit, copy.spent) == (raised.value.limit, raised.value.spent)


async def test_a_limit_can_be_raised_and_reset(emulator: DeepSeekEmulator) -> None:
    """A raised limit, or a reset, lets calls through again; models are free."""
    async with client_of(emulator, spend_limit=0) as client:
        with pytest.raises(SpendLimitError):
            await client.chat.completions.create(**ASK)
        assert await client.models.list()
        client.meter.spend_limit = Decimal(5)
        await client.chat.completions.create(**ASK)
        client.meter.spend_limit = client.meter.spent
        with pytest.raises(SpendLimitError):
            await client.chat.completions.create(**ASK)
        client.meter.reset()
        await client.chat.completions.create(**ASK)


async def test_clients_can_share_a_limit(emulator: DeepSeekEmulator) -> None:
    """One meter in two clients counts, and limits, both."""
    meter = UsageMeter(spend_limit="0.000001")
    async with (
        client_of(emulator, meter=meter) as one,
        client_of(emulator, meter=meter) as two,
    ):
        await one.chat.completions.create(**ASK)
        with pytest.raises(SpendLimitError):
            await two.chat.completions.create(**ASK)


async def test_a_limit_wants_a_price(emulator: DeepSeekEmulator) -> None:
    """With a limit, a model whose cost could not be counted is refused."""
    async with client_of(emulator, spend_limit=1) as client:
        with pytest.raises(ConfigurationError, match="prices="):
            await client.chat.completions.create(
                model="deepseek-next", messages=MESSAGES
            )
        with pytest.raises(ConfigurationError, match="prices="):
            await client.chat.completions.create(
                model="deepseek-flash", messages=MESSAGES, extra_body={"model": ["x"]}
            )

        assert not emulator.requests


@pytest.mark.parametrize("limit", [-1, "abc", float("nan"), "inf", True])
def test_a_limit_must_be_money(limit: Any) -> None:
    """Negative, endless and nonsensical limits are refused at once."""
    with pytest.raises(ConfigurationError):
        AsyncDeepSeek(api_key="k", spend_limit=limit)


def test_a_shared_meter_brings_its_own_limit() -> None:
    """A meter and the options it is made of do not go together."""
    with pytest.raises(ConfigurationError):
        AsyncDeepSeek(api_key="k", meter=UsageMeter(), spend_limit=1)
    with pytest.raises(ConfigurationError):
        AsyncDeepSeek(api_key="k", meter=UsageMeter(), prices=PRICES)
    with pytest.raises(ConfigurationError):
        AsyncDeepSeek(api_key="k", meter="meter")  # type: ignore[arg-type]


async def test_retries_are_counted_once(emulator: DeepSeekEmulator) -> None:
    """A call that succeeds at its second attempt is one call."""
    emulator.script(Status(status=503))
    async with client_of(emulator, retry=RetryPolicy(base=0)) as client:
        completion = await client.chat.completions.create(**ASK)

        assert len(completion.attempts) == 2
        assert client.meter.total.calls == 1


# -- sums over several answers -----------------------------------------------------


@tool
async def get_depth(river: str) -> int:
    """Depth of a river."""
    return len(river)


OTHER_PRICES = {"another": PRICES["deepseek-flash"]}


async def test_a_typed_answer_costs_its_repairs_too(emulator: DeepSeekEmulator) -> None:
    """What did not fit was paid for: the cost is what the meter has counted."""
    async with client_of(emulator) as client:
        said = iter(["no JSON", '{"answer": "x"}', '{"answer": 3}'])
        emulator.answer = lambda _: next(said)
        answer = await client.chat.completions.parse(response_type=int, **ASK)

        assert answer.repairs == 2
        assert answer.cost == client.meter.spent
        assert answer.completion.cost is not None
        assert client.meter.spent > answer.completion.cost > 0

        emulator.answer = '{"answer": 3}'
        client.meter.reset()
        stream = client.chat.completions.stream_parse(response_type=int, **ASK)
        assert (await stream.result()).cost == client.meter.spent > 0


async def test_a_turn_costs_all_its_rounds(emulator: DeepSeekEmulator) -> None:
    """Awaited or streamed, the rounds with calls are part of it."""
    calls = Answer(tool_calls=(Call("get_depth", {"river": "Rhine"}),))
    emulator.answer = lambda body: (
        calls if body["messages"][-1]["role"] == "user" else "Deep."
    )
    async with client_of(emulator) as client:
        completions = client.chat.completions
        turn = await completions.run_tools(
            model="deepseek-flash", messages=MESSAGES, tools=[get_depth]
        )
        assert len(turn.rounds) == 2
        assert turn.completion.cost is not None
        assert turn.cost == client.meter.spent > turn.completion.cost

        client.meter.reset()
        turn = await completions.stream_tools(
            model="deepseek-flash", messages=MESSAGES, tools=[get_depth]
        ).turn()
        assert turn.cost == client.meter.spent > 0


async def test_a_conversation_costs_its_turns_and_summaries(
    emulator: DeepSeekEmulator,
) -> None:
    """The sum is what the meter has, and is saved with the conversation."""
    emulator.answer = lambda body: "Short." if "mmary" in str(body) else "word " * 300
    async with client_of(emulator) as client:
        conversation = client.conversation(
            model="deepseek-flash",
            context=Summarize(limit=800, keep=0.2),
            thinking={"type": "disabled"},
        )
        assert conversation.cost == 0
        summaries = 0
        for number in range(4):
            await conversation.send(f"Question {number}")
            assert conversation.last_fit is not None
            summaries += conversation.last_fit.cost is not None
        assert summaries
        assert conversation.cost == client.meter.spent > 0

        loaded = client.load_conversation(conversation.to_json())
        assert loaded.cost == conversation.cost
        assert conversation.fork().cost == 0


async def test_sums_without_a_price_are_unknown(emulator: DeepSeekEmulator) -> None:
    """One answer without a price, and nobody knows the sum."""
    emulator.answer = '{"answer": 3}'
    async with client_of(emulator, prices=OTHER_PRICES) as client:
        completions = client.chat.completions
        conversation = client.conversation(model="deepseek-flash")
        await conversation.send("Hello")

        assert (await completions.parse(response_type=int, **ASK)).cost is None
        assert (await completions.run_tools(**ASK)).cost is None
        assert conversation.cost is None
        assert client.load_conversation(conversation.to_json()).cost is None


@pytest.mark.parametrize("amount", ["NaN", "-1", "Infinity"])
async def test_a_saved_cost_is_an_amount(
    emulator: DeepSeekEmulator, amount: str
) -> None:
    """A damaged file is refused, and one that tells no cost has an unknown one."""
    async with client_of(emulator) as client:
        data = b'{"version": 1, "model": "m", "cost": "%b"}' % amount.encode()
        with pytest.raises(SavedConversationError):
            client.load_conversation(data)
        assert client.load_conversation('{"version": 1, "model": "m"}').cost is None
