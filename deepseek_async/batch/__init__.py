"""Many requests, a bounded number at a time."""

from __future__ import annotations

from .results import BatchFailed, BatchOk, BatchResult
from .runner import Batch, BatchRequest

__all__ = ["Batch", "BatchFailed", "BatchOk", "BatchRequest", "BatchResult"]
