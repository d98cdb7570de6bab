"""Check a wheel: only the package, its metadata, and nothing that runs unasked."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path


def problems(wheel: Path) -> list[str]:
    """What is wrong with a wheel, in words.

    Args:
        wheel: The file.
    """
    names = zipfile.ZipFile(wheel).namelist()
    found = [
        f"{name}: belongs to neither the package nor its metadata"
        for name in names
        if not name.startswith("deepseek_async") or name.count("/") == 0
    ]
    found += [f"{name}: runs at every start" for name in names if name.endswith(".pth")]
    required = (
        "deepseek_async/__init__.py",
        "deepseek_async/py.typed",
        "deepseek_async/cli/data/gsm8k_200.jsonl",
        "deepseek_async/cli/data/gsm8k_LICENSE",
    )
    found += [f"{name}: missing" for name in required if name not in names]
    return found


if __name__ == "__main__":
    failed = False
    for argument in sys.argv[1:]:
        for problem in problems(Path(argument)):
            sys.stderr.write(f"{argument}: {problem}\n")
            failed = True
    sys.exit(failed)
