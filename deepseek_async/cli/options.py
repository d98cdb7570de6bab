"""Options that several subcommands share.

There is no option for the key: a command line is visible to every user of a machine
and stays in the shell's history.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

DEFAULT_MODEL = "deepseek-flash"
DEFAULT_CONCURRENCY = 32

Emulate = Annotated[
    bool,
    typer.Option(
        "--emulate", help="Talk to an emulator inside this process; needs no key."
    ),
]
BaseURL = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        metavar="URL",
        help="Where the API is; DEEPSEEK_BASE_URL or the public API by default.",
    ),
]
Model = Annotated[
    str, typer.Option("--model", "-m", metavar="MODEL", help="The model to ask.")
]
RowModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="Ask this model whatever the rows say; without it, the row's own, or "
        f"{DEFAULT_MODEL}.",
    ),
]
System = Annotated[
    str | None,
    typer.Option("--system", "-s", metavar="TEXT", help="Instructions for the model."),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        "-p",
        metavar="TEMPLATE",
        help='A prompt with columns of the row: "Translate: {text}".',
    ),
]


def _concurrency(more: str = "") -> Any:  # noqa: ANN401 - as typer's
    return typer.Option(
        "--concurrency",
        "-c",
        min=1,
        max=10_000,
        metavar="N",
        help=f"The most requests at once{more}.",
    )


Concurrency = Annotated[int, _concurrency()]
FoundConcurrency = Annotated[
    int | None,
    _concurrency("; if not given, the account's limit is found out and followed"),
]
Raw = Annotated[
    bool,
    typer.Option(
        "--raw", help="Print what the model writes unchanged, control codes included."
    ),
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
