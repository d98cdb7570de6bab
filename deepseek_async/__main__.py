"""`python -m deepseek_async`: the same as the command `deepseek-async`."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
