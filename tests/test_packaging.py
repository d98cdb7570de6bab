"""What is installed, and what importing it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import deepseek_async

PACKAGE = Path(deepseek_async.__file__).parent
PROBE = """
import json, sys
import aiohttp, anyio, msgspec
import anyio._backends._asyncio
before = set(sys.modules)
import deepseek_async
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def modules_of(probe: str) -> list[str]:
    """The modules that a fresh interpreter prints."""
    path = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(  # noqa: S603 - this interpreter, our own code
        [sys.executable, "-c", probe],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    found: list[str] = json.loads(done.stdout)
    return found


def test_importing_pulls_in_the_three_dependencies_only() -> None:
    """Beside aiohttp, msgspec and anyio, only the standard library is loaded."""
    loaded = modules_of(PROBE)
    tops = {name.partition(".")[0] for name in loaded}

    assert tops - set(sys.stdlib_module_names) == {"deepseek_async"}


def test_importing_leaves_the_extras_alone() -> None:
    """Emulator, terminal and test tools are loaded by those who use them."""
    loaded = set(modules_of(PROBE))

    for name in ("testing", "cli"):
        assert f"deepseek_async.{name}" not in loaded
    assert not loaded & {"typer", "rich", "pytest", "uvloop", "openai", "aiohttp.web"}


def test_the_distribution_needs_three_packages() -> None:
    """The required dependencies are exactly three; the rest are extras."""
    required = {
        line.split(";")[0]
        .strip(" ()")
        .split("<")[0]
        .split(">")[0]
        .split("[")[0]
        .strip()
        for line in metadata.requires("deepseek-async") or []
        if "extra ==" not in line
    }

    assert required == {"aiohttp", "anyio", "msgspec"}


def test_versions_agree() -> None:
    """The module says the version that was installed."""
    assert deepseek_async.__version__ == metadata.version("deepseek-async")


def test_the_package_is_typed() -> None:
    """Type checkers are told that annotations are there."""
    assert (PACKAGE / "py.typed").is_file()


def test_the_wheel_holds_the_package_only() -> None:
    """Tests and benchmarks are not installed on anybody's machine."""
    root = Path(__file__).parent.parent
    config = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))

    wheel = config["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["deepseek_async"]
    assert config["project"]["requires-python"] == ">=3.11"
