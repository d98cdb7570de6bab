"""The client: configuration and life cycle, with the endpoints as its attributes."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from types import TracebackType
from typing import Literal, Self, Unpack

from .batch import Batch, BatchOptions, BatchSource, ClientWire, Limit, Settings
from .caching import ResponseCache, SharedAnswers
from .chat import Completions, turn_answerer
from .conversation import ContextPolicy, Conversation
from .endpoints import FIMCompletions, Models, fetch_balance
from .errors import ConfigurationError
from .errors.root import frameless
from .metering import UsageMeter
from .params import CallOptions, ChatOptions
from .pricing import Price
from .redaction import Hook, Redaction
from .retry import RetryBudget, RetryPolicy
from .session import DEFAULT_MAX_CONNECTIONS, SessionManager
from .settings import APIKey, BaseURL, warn_about_origin
from .timeouts import Timeouts
from .tokens import TokenCounter
from .tools import ToolPolicy
from .types.account import Balance
from .types.request import Message


class Chat:
    """`client.chat`."""

    __slots__ = ("completions",)

    def __init__(
        self,
        manager: SessionManager,
        meter: UsageMeter,
        shared: SharedAnswers | None = None,
        redaction: Redaction | None = None,
    ) -> None:
        self.completions = Completions(manager, meter, shared, redaction)


class AsyncDeepSeek:
    """The DeepSeek API for asyncio programs.

    One client serves any number of calls, event loops and threads. Make one and keep
    it; close it with `async with` or `aclose()`:

        async with AsyncDeepSeek() as client:
            completion = await client.chat.completions.create(
                model="deepseek-flash",
                messages=[{"role": "user", "content": "Hello"}],
            )
            print(completion.choices[0].message.content)

    Args:
        api_key: The key; `DEEPSEEK_API_KEY` if not given.
        base_url: Where the API is; `DEEPSEEK_BASE_URL` or the public API if not
            given. https only, but for loopback addresses.
        timeouts: The clocks of every call; see `Timeouts`.
        timeout: One number of seconds for every wait on the server, in place of
            `timeouts`.
        retry: How often and how patiently to try again; see `RetryPolicy`.
        max_retries: How often to try again, in place of `retry`.
        max_connections: The most requests on the wire at once, per event loop;
            further ones wait their turn. The wait is no network timeout.
        max_body_size: The largest answer accepted, in bytes.
        proxy: The URL of a proxy.
        trust_env: Whether to take proxies from the environment.
        ssl_context: A TLS context in place of the default one.
        spend_limit: US dollars. Once they are spent, further completions are refused
            with `SpendLimitError`, before a byte is sent; see `UsageMeter`.
        prices: A price table in place of `PRICES`.
        meter: A `UsageMeter` shared with other clients, in place of one made of
            `spend_limit` and `prices`.
        cache: Answers identical requests without asking the server: `MemoryCache()`,
            `FileCache(path)`, or a `ResponseCache` of your own. Identical requests
            at the same time and on the same terms are sent once. Calls choose with
            `cache_control`.
        redact: Hides sensitive text from the server and puts it back into answers:
            `[PatternRedactor()]`, Redactors or functions of your own, in order; one
            alone needs no list.

    Attributes:
        chat: `chat.completions.create(...)`, `.parse(...)`, `.run_tools(...)`.
        completions: `completions.create(...)`: fill in the middle.
        models: `models.list()` and `models.retrieve(id)`.
        meter: Tokens and money so far, by model and by the calls' `tag`.

    Raises:
        ConfigurationError: There is no key, or an argument makes no sense.
    """

    def __init__(  # noqa: PLR0913 - the configuration, keyword-only
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeouts: Timeouts | None = None,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        max_retries: int | None = None,
        max_connections: int = DEFAULT_MAX_CONNECTIONS,
        max_body_size: int = 64 * 1024 * 1024,
        proxy: str | None = None,
        trust_env: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        spend_limit: Decimal | float | str | None = None,
        prices: Mapping[str, Price] | None = None,
        meter: UsageMeter | None = None,
        cache: ResponseCache | None = None,
        redact: Hook | Sequence[Hook] = (),
    ) -> None:
        try:
            url = BaseURL.find(base_url)
            key = APIKey.find(api_key)
            warn_about_origin(api_key, url)
        finally:
            del api_key  # no frame of a traceback may show it
        self._use(
            SessionManager(
                api_key=key,
                base_url=url,
                timeouts=_timeouts(timeouts, timeout),
                retry=_retry(retry, max_retries),
                budget=RetryBudget(),
                max_connections=max_connections,
                max_body_size=max_body_size,
                proxy=proxy,
                trust_env=trust_env,
                ssl_context=ssl_context,
            ),
            meter := _meter(meter, spend_limit, prices),
            _shared(cache, meter, url),
            Redaction(redact) if redact else None,
        )

    def _use(
        self,
        manager: SessionManager,
        meter: UsageMeter,
        shared: SharedAnswers | None,
        redaction: Redaction | None,
    ) -> None:
        self._manager = manager
        self._shared = shared
        self._redaction = redaction
        self.meter = meter
        self.chat = Chat(manager, meter, shared, redaction)
        self.completions = FIMCompletions(manager, meter, shared, redaction)
        self.models = Models(manager)

    def __repr__(self) -> str:
        manager: SessionManager | None = vars(self).get("_manager")
        if manager is None:  # its construction failed, and a traceback shows it
            return "AsyncDeepSeek(...)"
        state = "closed" if manager.closed else "open"
        return f"AsyncDeepSeek({manager.base_url.plain!r}, {state})"

    @property
    def base_url(self) -> str:
        """Where the API is."""
        return self._manager.base_url.plain

    @property
    def is_closed(self) -> bool:
        """Whether the client was closed."""
        return self._manager.closed

    async def balance(self, **options: Unpack[CallOptions]) -> Balance:
        """The money left.

        https://api-docs.deepseek.com/api/get-user-balance

        Args:
            **options: See `CallOptions`.

        Raises:
            DeepSeekError: As `chat.completions.create`.
        """
        return await fetch_balance(self._manager, options)

    @frameless
    def batch(
        self,
        requests: BatchSource,
        *,
        concurrency: int | Limit | None = None,
        journal: str | os.PathLike[str] | None = None,
        order: Literal["completed", "input"] = "completed",
        **options: Unpack[BatchOptions],
    ) -> Batch:
        """Run many chat requests, as many at a time as the account allows.

            async with client.batch("in.jsonl", journal="job") as results:
                async for result in results:
                    if isinstance(result, BatchOk):
                        print(result.key, result.completion.text)

        Args:
            requests: What `create` takes, as dicts or `ChatCompletionRequest`, or
                pairs of a key and such a request; or a file of rows, by its path or
                opened in binary mode. Read lazily, and no faster than results are
                taken.
            concurrency: The most requests on the wire at once; or a `Limit`, which
                several batches may share. If not given, the account's limit is found
                out and followed, up to `max_connections`.
            journal: A directory. With it, results are handed out once they are
                durable, and a run that ended for whatever reason goes on where it
                was. It holds results and hashes of requests, not the requests.
            order: `completed`: as they come; `input`: in the order of `requests`.
            **options: See `BatchOptions`.

        Returns:
            An async context manager over the results, each a `BatchOk` or a
            `BatchFailed`.

        Raises:
            ConfigurationError: `concurrency` is not between 1 and the client's
                `max_connections`, or an option makes no sense.
        """
        most = self._manager.max_connections
        if concurrency is None:
            concurrency = Limit.adaptive(most=most)
        elif not isinstance(concurrency, Limit):
            if type(concurrency) is not int or not 1 <= concurrency <= most:
                message = f"concurrency must be from 1 to max_connections ({most})"
                raise ConfigurationError(message)
            concurrency = Limit.fixed(concurrency)
        options = {"prices": self.meter.prices, **options}
        settings = Settings.of({"order": order, "journal": journal, **options})
        return Batch(
            ClientWire(self._manager, self.meter, self._redaction),
            requests,
            concurrency,
            settings,
        )

    @frameless
    def conversation(
        self,
        *,
        model: str,
        system: str | Sequence[str] | None = None,
        messages: Iterable[Message] = (),
        context: ContextPolicy | None = None,
        tokens: TokenCounter | None = None,
        policy: ToolPolicy | None = None,
        lost_reasoning: Literal["refuse", "empty"] = "refuse",
        **options: Unpack[ChatOptions],
    ) -> Conversation:
        """Begin a conversation, which keeps the history that the API does not.

            conversation = client.conversation(model="deepseek-flash")
            print((await conversation.send("Hello")).text)

        Args:
            model: Such as `deepseek-flash`.
            system: Instructions.
            messages: A history to begin with.
            context: Keeps it within the model's context: `DropOldest()` if not
                given, `Summarize()`, `KeepAll()`, or one of your own.
            tokens: Counts tokens: a `TokenizerFile`; estimated if not given.
            policy: How `@tool` functions among `tools` are run.
            lost_reasoning: What to do about messages without their reasoning.
            **options: Arguments of every request; see `ChatOptions`.

        Returns:
            The conversation.

        Raises:
            ConfigurationError: `context`, `tokens`, `policy` or `lost_reasoning` is
                something else.
            InvalidRequestError: `messages` or an option is.
        """
        return Conversation(
            turn_answerer(self.chat.completions, policy),
            model=model,
            system=system,
            messages=messages,
            context=context,
            tokens=tokens,
            lost_reasoning=lost_reasoning,
            options=options,
        )

    @frameless
    def load_conversation(
        self,
        data: str | bytes,
        *,
        context: ContextPolicy | None = None,
        tokens: TokenCounter | None = None,
        policy: ToolPolicy | None = None,
        lost_reasoning: Literal["refuse", "empty"] = "refuse",
        **options: Unpack[ChatOptions],
    ) -> Conversation:
        """Go on with a conversation that was saved.

        Args:
            data: What `Conversation.to_json` returned.
            context: As `conversation`.
            tokens: As `conversation`.
            policy: As `conversation`.
            lost_reasoning: As `conversation`.
            **options: Arguments of every request, over the saved ones. Tools are
                never saved: give them again.

        Returns:
            The conversation.

        Raises:
            ConfigurationError: As `conversation`.
            InvalidRequestError: As `conversation`.
            SavedConversationError: It is something else, or of a newer version.
        """
        return Conversation.from_json(
            data,
            turn_answerer(self.chat.completions, policy),
            context=context,
            tokens=tokens,
            lost_reasoning=lost_reasoning,
            options=options,
        )

    def with_options(
        self,
        *,
        timeouts: Timeouts | None = None,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        max_retries: int | None = None,
    ) -> AsyncDeepSeek:
        """The same client with other defaults; connections are shared.

        Args:
            timeouts: The clocks, if not this client's.
            timeout: One number for every wait on the server.
            retry: The retry policy, if not this client's.
            max_retries: How often to try again.

        Returns:
            A view of this client: closing either closes both.
        """
        changed = AsyncDeepSeek.__new__(AsyncDeepSeek)
        changed._use(  # noqa: SLF001 - another instance of this class
            self._manager.with_defaults(
                _timeouts(timeouts, timeout, self._manager.timeouts),
                _retry(retry, max_retries, self._manager.retry),
            ),
            self.meter,
            self._shared,
            self._redaction,
        )
        return changed

    async def aclose(self) -> None:
        """Close every connection.

        Calls and streams under way end at once with `ClientClosedError`, and later
        ones are refused with it. Closing twice does nothing.
        """
        await self._manager.aclose()

    async def close(self) -> None:
        """The same as `aclose`."""
        await self._manager.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._manager.aclose()


def _timeouts(
    timeouts: Timeouts | None, timeout: float | None, default: Timeouts | None = None
) -> Timeouts:
    if timeouts is not None:
        if timeout is not None:
            message = "give timeouts or timeout, not both"
            raise ConfigurationError(message)
        if type(timeouts) is not Timeouts:
            message = "timeouts must be a Timeouts; a number goes in timeout="
            raise ConfigurationError(message)
        return timeouts
    if timeout is None:
        return default or Timeouts()
    if type(timeout) not in {int, float}:
        message = "timeout must be a number of seconds; clocks go in timeouts="
        raise ConfigurationError(message)
    return Timeouts.uniform(timeout)


def _retry(
    retry: RetryPolicy | None,
    max_retries: int | None,
    default: RetryPolicy | None = None,
) -> RetryPolicy:
    if retry is not None:
        if max_retries is not None:
            message = "give retry or max_retries, not both"
            raise ConfigurationError(message)
        if type(retry) is not RetryPolicy:
            message = "retry must be a RetryPolicy; a number goes in max_retries="
            raise ConfigurationError(message)
        return retry
    if max_retries is None:
        return default or RetryPolicy()
    if type(max_retries) is not int or max_retries < 0:
        message = "max_retries must be a whole number of at least 0"
        raise ConfigurationError(message)
    return RetryPolicy(attempts=max_retries + 1)


def _meter(
    meter: UsageMeter | None,
    spend_limit: Decimal | float | str | None,
    prices: Mapping[str, Price] | None,
) -> UsageMeter:
    if meter is None:
        return UsageMeter(prices=prices, spend_limit=spend_limit)
    if type(meter) is not UsageMeter:
        message = "meter must be a UsageMeter"
        raise ConfigurationError(message)
    if spend_limit is not None or prices is not None:
        message = "spend_limit and prices belong to the meter: UsageMeter(...)"
        raise ConfigurationError(message)
    return meter


def _shared(cache: object, meter: UsageMeter, url: BaseURL) -> SharedAnswers | None:
    if cache is None:
        return None
    if not isinstance(cache, ResponseCache):
        message = "cache must be a ResponseCache, such as MemoryCache()"
        raise ConfigurationError(message)
    return SharedAnswers(cache, meter, url.plain)
