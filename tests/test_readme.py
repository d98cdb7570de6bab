"""README's programs run, and the docstrings' examples say the truth."""

from __future__ import annotations

import asyncio
import doctest
import importlib
import os
import pkgutil
import re
import sys
from pathlib import Path

import pytest

import deepseek_async
from deepseek_async.testing import DeepSeekEmulator, Pace

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
# With what pytest-asyncio warns of where it is not said.
_PYTEST = ("-m", "pytest", "-o", "asyncio_default_fixture_loop_scope=function")


def section(program: str) -> str:
    """The heading a program stands under."""
    heading, _, _ = (
        README[: README.index(program)].rpartition("\n## ")[2].partition("\n")
    )
    return f"{PROGRAMS.index(program) + 1} {heading}"


@pytest.mark.parametrize("number", range(len(PROGRAMS)), ids=map(section, PROGRAMS))
async def test_program(number: int, tmp_path: Path) -> None:
    """Every Python program of README runs as it stands, against the emulator."""
    program = tmp_path / "test_example.py"
    program.write_text(PROGRAMS[number], encoding="utf-8")
    async with DeepSeekEmulator(pace=Pace.instant()) as emulator:
        environment = os.environ | {
            "DEEPSEEK_API_KEY": emulator.api_key or "",
            "DEEPSEEK_BASE_URL": emulator.base_url,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-W",
            "error",
            *(_PYTEST if "def test_" in PROGRAMS[number] else ()),
            program.name,
            cwd=tmp_path,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        shown, complained = await process.communicate()

    assert complained.decode() == ""
    assert process.returncode == 0
    assert shown


def modules() -> list[str]:
    """Every module of the package."""
    found = pkgutil.walk_packages(deepseek_async.__path__, "deepseek_async.")
    return [module.name for module in found if not module.name.endswith("__main__")]


@pytest.mark.parametrize("name", modules())
def test_docstrings(name: str) -> None:
    """Examples in docstrings give the results they show."""
    module = importlib.import_module(name)

    assert doctest.testmod(module).failed == 0
