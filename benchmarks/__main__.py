"""`python -m benchmarks [NAME ...]`: see the package's docstring."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import (
    bench_concurrency,
    bench_decode,
    bench_import,
    bench_live,
    bench_memory,
    bench_request,
    bench_stream,
    guard,
    plots,
)
from .lab import Lab, open_lab
from .options import Options
from .report import Table, environment

BENCHMARKS: dict[str, Callable[[Lab, Options], list[Table]]] = {
    "stream": bench_stream.run,
    "live": bench_live.run,
    "request": bench_request.run,
    "concurrency": bench_concurrency.run,
    "decode": bench_decode.run,
    "import": bench_import.run,
    "memory": bench_memory.run,
}
TLS_IN_FULL_RUN = ("stream", "request")
RESULTS = Path(__file__).parent / "RESULTS.md"
BATCH = Path(__file__).parent / "RESULTS_batch.md"  # from benchmarks/batch, by hand
PREAMBLE = """\
# Results

Written by `python -m benchmarks all --write`; not edited by hand. With the name of a
benchmark in place of `all` only its tables are written anew: each group has its date.

- Date: {date}
- Machine: {machine}
- Versions: {versions}

CPU is the client process's own (user and system), imports and warm-up excluded;
medians of rounds in which the peers took turns, each in its own process on one core,
the server on another. `÷ floor` compares with raw aiohttp in the same run,
`openai ÷ this` says how many times more openai's better backend costs. On a shared
machine absolute figures drift from hour to hour; the ratios hold better.
"""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    choices = ["all", *BENCHMARKS]
    parser.add_argument("names", nargs="*", choices=choices, default="all")
    parser.add_argument("--rounds", type=int, help="turns of every peer")
    parser.add_argument("--loop", choices=("asyncio", "uvloop", "both"), default="both")
    parser.add_argument(
        "--tls", action="store_true", help="TLS as well, on the first loop"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, not tables")
    parser.add_argument("--plots", action="store_true", help="write the PNG files")
    parser.add_argument(
        "--write", action="store_true", help="write these tables into RESULTS.md; plots"
    )
    return parser.parse_args(argv)


def options_of(given: argparse.Namespace, name: str) -> Options:
    """Return what a benchmark is told; a full run includes TLS where it is short."""
    loops = ("asyncio", "uvloop") if given.loop == "both" else (given.loop,)
    tls = given.tls or ("all" in given.names and name in TLS_IN_FULL_RUN)
    return Options(given.rounds, loops, tls)


def results(found: Mapping[str, Sequence[Table]]) -> str:
    """Return the text of RESULTS.md; what was not measured stays as it was."""
    before = RESULTS.read_text() if RESULTS.exists() else ""
    shown = [
        "\n".join(table.render() for table in found[name])
        if name in found
        else sections_of(before, name)
        for name in BENCHMARKS
    ]
    shown += [table.render() for table in guard.recorded_tables()]
    drawn = sorted(path.name for path in plots.FOLDER.glob("*.png"))
    pictures = [f"![{name}](plots/{name})" for name in drawn]
    parts = [PREAMBLE.format(**environment()), *shown, *pictures, "", BATCH.read_text()]
    return "\n".join(parts).rstrip() + "\n"


def sections_of(text: str, name: str) -> str:
    """Return the tables of a benchmark with what is said about them."""
    sections = text.split("\n### ")[1:]
    return "\n".join(f"### {one}" for one in sections if one.startswith(f"{name}: "))


def main() -> None:
    given = arguments()
    names = list(BENCHMARKS) if "all" in given.names else given.names
    found: dict[str, list[Table]] = {}
    with open_lab() as lab:
        for name in names:
            tables = found[name] = BENCHMARKS[name](lab, options_of(given, name))
            tables[-1].notes.append(f"Measured on {environment()['date']}.")
            if not given.json:
                print(*(table.render() for table in tables), sep="\n", flush=True)
    if given.json:
        listed = [table.as_dict() for name in names for table in found[name]]
        print(json.dumps({**environment(), "tables": listed}, indent=1))
    if given.plots or given.write:
        plots.write()
    if given.write:
        RESULTS.write_text(results(found))


if __name__ == "__main__":
    main()
