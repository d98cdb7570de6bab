"""Options that several subcommands share.

There is no option for the key: a command line is visible to every user of a machine
and stays in the shell's history.
"""

from __future__ import annotations

from typing import Annotated

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
Model = Annotated[str, typer.Option("--model", "-m", help="The model to ask.")]
Concurrency = Annotated[
    int,
    typer.Option(
        "--concurrency", "-c", min=1, max=10_000, help="The most requests at once."
    ),
]
Raw = Annotated[
    bool,
    typer.Option(
        "--raw", help="Print what the model writes unchanged, control codes included."
    ),
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
