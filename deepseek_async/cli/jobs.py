"""`deepseek-async batch run|plan|status|export|merge|verify`: jobs with a journal.

Exit codes beside those of `exits`: 5 if a ceiling ended the job, which can be resumed.
"""

from __future__ import annotations

import asyncio
import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from ..batch import (
    Batch,
    BatchReport,
    BatchStoppedError,
    Budget,
    Settings,
)
from ..batch.export import export as export_journal, writer_of
from ..batch.plan import make_plan
from ..batch.upkeep import (
    JournalStatus,
    merge as merge_journals,
    repair,
    status as status_of,
)
from ..errors import BatchError, JournalError
from .connection import connect, require_key
from .console import complain, note, tell
from .exits import CommandError, ExitCode, code_of, usage_errors
from .options import (
    BaseURL,
    Concurrency,
    Emulate,
    FoundConcurrency,
    Prompt,
    RowModel,
    System,
)
from .rows import row_options

STOPPED: Final = 5
_FATAL: Final = frozenset({"authentication", "permission", "balance"})
_MENDED: Final = _FATAL | {"model", "systematic", "mismatch"}
_CEILINGS: Final = frozenset(
    {"cost", "tokens", "failures", "failure_ratio", "wall_time", "spend_limit"}
)
SIMPLE: Final = "file"


class _Group(TyperGroup):
    """Takes `batch IN OUT`, without a subcommand, as the simple form."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        if not args:
            args = ["--help"]
        if args[0] not in {*self.commands, "--help", "-h"}:
            args = [SIMPLE, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    short_help="Answer every row of a file.",
    help="Answer every row of a file: `batch IN OUT` (its options: `batch file -h`), "
    "or as a job that survives anything: `batch run IN --journal DIR`.",
    epilog="Exit codes: 0 all rows answered; 1 some failed; 2 usage or bad input; "
    "3 configuration; 4 the key or the balance was refused; 5 a ceiling ended the "
    "job; 130 interrupted, and it can be resumed.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Source = Annotated[
    str,
    typer.Argument(
        metavar="IN", help=".jsonl, .csv (also .gz, .zst), .parquet, or hf:NAME:SPLIT."
    ),
]
JournalOption = Annotated[
    Path, typer.Option("--journal", "-j", metavar="DIR", help="Where results are kept.")
]
JournalArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The journal.")]
Key = Annotated[
    str | None, typer.Option("--key", metavar="COLUMN", help="The column with the key.")
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens",
        min=1,
        metavar="N",
        help="The most output tokens of rows that do not say.",
    ),
]
Shard = Annotated[
    str, typer.Option("--shard", metavar="I/N", help="Only part I of N, from 0.")
]


def _options(
    *,
    prompt: str | None,
    system: str | None,
    key: str | None,
    model: str | None,
    max_tokens: int | None,
    shard: str,
) -> dict[str, Any]:
    options = row_options(prompt=prompt, system=system, model=model)
    if max_tokens is not None:
        options["defaults"]["max_tokens"] = max_tokens
    part, _, parts = shard.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
        message = f"--shard {shard}: I/N with 0 <= I < N is meant"
        raise CommandError(message)
    return options | {"key": key, "shard": (int(part), int(parts))}


@app.command()
def run(  # noqa: PLR0913 - each is an option of the command line
    source: Source,
    *,
    journal: JournalOption,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Export there at the end, in input order."),
    ] = None,
    errors: Annotated[
        Path | None,
        typer.Option("--errors", help="For failed rows, beside a .jsonl."),
    ] = None,
    prompt: Prompt = None,
    system: System = None,
    key: Key = None,
    model: RowModel = None,
    max_tokens: MaxTokens = None,
    concurrency: FoundConcurrency = None,
    max_cost: Annotated[
        str | None, typer.Option("--max-cost", metavar="USD", help="Never spend more.")
    ] = None,
    max_failures: Annotated[
        int | None,
        typer.Option(
            "--max-failures", min=0, metavar="N", help="End when more rows have failed."
        ),
    ] = None,
    wall_time: Annotated[
        float | None,
        typer.Option("--wall-time", metavar="S", help="End after so many seconds."),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            "--deadline",
            metavar="S",
            help="The most seconds a row takes, with retries.",
        ),
    ] = None,
    off_peak: Annotated[
        bool, typer.Option("--off-peak", help="Send at off-peak prices only.")
    ] = False,
    dedupe: Annotated[
        bool, typer.Option("--dedupe", help="Send equal rows at temperature 0 once.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option(help="Try rows again that failed in a previous run.")
    ] = True,
    shard: Shard = "0/1",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON.")
    ] = False,
    base_url: BaseURL = None,
    emulate: Emulate = False,
) -> int:
    """Run a job, or go on with it: finished rows are skipped.

    Ctrl-C sends nothing more and waits for what is on the wire; a second one ends at
    once. Either way, the same command goes on later.
    """
    require_key(emulate=emulate)
    _check_outputs(source, journal, output, errors)
    options = _options(
        prompt=prompt,
        system=system,
        key=key,
        model=model,
        max_tokens=max_tokens,
        shard=shard,
    )
    with usage_errors():
        budget = Budget(
            max_cost=None if max_cost is None else _money(max_cost),
            max_failures=max_failures,
            wall_time=wall_time,
        )
    options |= {
        "journal": journal,
        "deadline": deadline,
        "off_peak": off_peak,
        "dedupe": dedupe,
        "retry_failed": retry_failed,
        "budget": budget,
        "progress": True,
        "signals": True,
    }
    running = _run(
        source, options, concurrency=concurrency, base_url=base_url, emulate=emulate
    )
    report, failure = asyncio.run(running)
    try:
        if output is not None and not isinstance(failure, JournalError):
            export_journal(journal, output, errors=errors)
    except Exception:
        if failure is not None:  # it came first, and whoever catches this has no idea
            complain(failure.message)
        raise
    finally:
        tell(report.to_table())
        if as_json:
            sys.stdout.write(report.to_json().decode() + "\n")
    if report.stop_reason is not None:
        note(_going_on(report.stop_reason))
    return exit_code(report, failure)


def _going_on(reason: str) -> str:
    if reason in _CEILINGS and reason != "wall_time":
        return "the same command with a higher limit goes on where this run ended"
    if reason in _MENDED:
        return "the same command goes on where this run ended, once that is mended"
    return "the same command goes on where this run ended"


def _check_outputs(
    source: str, journal: Path, output: Path | None, errors: Path | None
) -> None:
    """See that what a job is paid for can be written afterwards."""
    if output is None:
        if errors is not None:
            message = "--errors goes with --output"
            raise CommandError(message)
        return
    writer_of(journal, output, errors=errors)
    for path in (output, errors):
        if path is not None and path.exists() and _is_same(path, Path(source)):
            message = f"{path} is the input"
            raise CommandError(message)


def _is_same(path: Path, other: Path) -> bool:
    return other.exists() and path.samefile(other)


def _money(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError:
        message = f"--max-cost {text!r} is not an amount of dollars"
        raise CommandError(message) from None


async def _run(
    source: str,
    options: dict[str, Any],
    *,
    concurrency: int | None,
    base_url: str | None,
    emulate: bool,
) -> tuple[BatchReport, BatchError | None]:
    connections = concurrency or 2500
    async with connect(
        emulate=emulate, base_url=base_url, connections=connections
    ) as client:
        with usage_errors():
            batch: Batch = client.batch(source, concurrency=concurrency, **options)
        try:
            return await batch.run(), None
        except BatchError as error:
            if not isinstance(error, BatchStoppedError) and not (
                batch.report.attempts or batch.report.skipped
            ):
                raise  # before anything was paid for
            return batch.report, error


def exit_code(report: BatchReport, failure: BatchError | None) -> int:
    """How a command ends after a run; why it ended early is told."""
    if failure is not None:
        complain(failure.message)
        if report.stop_reason == "interrupted":
            return ExitCode.INTERRUPTED
        reason = getattr(failure, "reason", None)
        if reason in _FATAL:
            return ExitCode.FATAL
        return STOPPED if reason in _CEILINGS else code_of(failure)
    if report.stop_reason == "interrupted":
        return ExitCode.INTERRUPTED
    has_failures = report.failed or report.failed_before
    return ExitCode.FAILED if has_failures else ExitCode.OK


@app.command()
def plan(  # noqa: PLR0913 - each is an option of the command line
    source: Source,
    *,
    prompt: Prompt = None,
    system: System = None,
    key: Key = None,
    model: RowModel = None,
    max_tokens: MaxTokens = None,
    concurrency: Concurrency = 500,
    latency: Annotated[
        float, typer.Option("--latency", metavar="S", help="How long a request takes.")
    ] = 8.0,
    shard: Shard = "0/1",
) -> int:
    """Say what a run would send, cost and take, and send nothing."""
    options = _options(
        prompt=prompt,
        system=system,
        key=key,
        model=model,
        max_tokens=max_tokens,
        shard=shard,
    )
    settings = Settings.of(options)
    found = asyncio.run(
        make_plan(source, settings, concurrency=concurrency, latency=latency)
    )
    sys.stdout.write(found.to_table() + "\n")
    return ExitCode.FAILED if found.invalid else ExitCode.OK


def _shown(found: JournalStatus) -> str:
    lines = [
        f"answered  {found.ok:,}",
        f"failed    {found.failed:,}",
        f"cost      ${found.cost:.6f}, possibly ${found.uncertain_cost:.6f} more",
        f"tokens    {found.tokens:,}",
        f"records   {found.records:,} in {found.size:,} bytes",
        f"shard     {found.shard}",
        f"running   {'yes' if found.is_running else 'no'}",
    ]
    lines += [
        f"damage    {torn.segment} offset {torn.offset} line {torn.line}: "
        + ("an interrupted write" if torn.is_torn else "changed afterwards")
        for torn in found.damage
    ]
    return "\n".join(lines) + "\n"


@app.command()
def status(journal: JournalArgument) -> int:
    """Say what is in a journal; a run may be at work on it."""
    sys.stdout.write(_shown(status_of(journal)))
    return ExitCode.OK


@app.command()
def verify(
    journal: JournalArgument,
    *,
    mend: Annotated[
        bool, typer.Option("--repair", help="Keep what is good, leave out the rest.")
    ] = False,
) -> int:
    """Check every record of a journal."""
    if mend:
        for torn in repair(journal):
            complain(f"left out: {torn.segment} line {torn.line}, {torn.size} bytes")
    found = status_of(journal)
    sys.stdout.write(_shown(found))
    return ExitCode.OK if found.is_sound else ExitCode.FAILED


@app.command()
def export(
    journal: JournalArgument,
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help=".jsonl, .csv or .parquet.")
    ],
    *,
    errors: Annotated[
        Path | None,
        typer.Option("--errors", help="For failed rows, beside a .jsonl."),
    ] = None,
) -> int:
    """Write the results of a journal to a file, in input order."""
    done = export_journal(journal, output, errors=errors)
    sys.stderr.write(f"{done.ok:,} answered, {done.failed:,} failed\n")
    return ExitCode.OK


@app.command()
def merge(
    target: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new directory for the whole.")
    ],
    sources: Annotated[
        list[Path], typer.Argument(metavar="SHARD...", help="Journals of one job.")
    ],
) -> int:
    """Put the journals of shards together."""
    sys.stdout.write(_shown(merge_journals(target, list(sources))))
    return ExitCode.OK
