"""`python -m fuzz TARGET [libFuzzer's arguments]`: see the package's docstring."""

from __future__ import annotations

import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

try:
    atheris: Any = import_module("atheris")  # it has no type hints
except ImportError:
    sys.exit("atheris is not installed: pip install 'deepseek-async[fuzz]'")

with atheris.instrument_imports(include=["deepseek_async"]):
    from .seeds import seeds_of
    from .targets import TARGETS


def main(argv: list[str]) -> None:
    """Run one target until libFuzzer has had enough."""
    name = argv[1] if len(argv) > 1 else ""
    if name not in TARGETS:
        sys.exit(f"usage: python -m fuzz {{{','.join(TARGETS)}}} [-max_total_time=S]")
    # libFuzzer ends the process itself, so nothing could remove the directory later.
    corpus = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    for number, seed in enumerate(seeds_of(name)):
        (corpus / f"seed{number}").write_bytes(seed)
    given = argv[2:]
    options = ["-max_len=4096", "-timeout=10", "-rss_limit_mb=1024", *given]
    is_single = any(Path(argument).is_file() for argument in given)
    places = [] if is_single else [str(corpus)]
    atheris.Setup([argv[0], *options, *places], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
