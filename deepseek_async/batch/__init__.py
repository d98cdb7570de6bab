"""Many requests, as many at a time as the account allows, and none of them lost.

What a batch needs is its source; what it usually gets beside is a limit and a journal.
The rooms, imports pointing down::

    runner                          `Batch`: results, controls, figures
    plan | export | upkeep          before a batch, and after it
    catalogue                       the results in a journal, in input order
    engine                          what goes next, and when
    attempts                        one attempt, and what follows from it
    queueing                        retries and new requests
    intake | prefix | dedupe        rows to requests, their order, their doubles
    cover                           what may be billed, noted beforehand
    commit | delivery               durable first, then to the reader
    source | files | template       where rows come from, and what they become
    journal | index | record        the directory that survives a crash
    admission | rates | budget      how many, how fast, for how much
    outcome | stops | interrupt     what failures mean, and when to end
    report | progress | results     what came of it
"""

from __future__ import annotations

from ..errors import (
    BatchError,
    BatchStoppedError,
    CancelledItemError,
    JournalError,
    JournalLockedError,
    JournalMismatchError,
    SourceError,
)
from .admission import LimitChange
from .budget import Budget
from .catalogue import read_results
from .limit import Limit
from .options import BatchOptions, Settings
from .progress import Progress
from .rates import Rates
from .report import BatchReport
from .results import BatchFailed, BatchOk, BatchResult
from .runner import Batch
from .source import BatchSource
from .template import BatchRequest
from .wire import ClientWire

__all__ = [
    "Batch",
    "BatchError",
    "BatchFailed",
    "BatchOk",
    "BatchOptions",
    "BatchReport",
    "BatchRequest",
    "BatchResult",
    "BatchSource",
    "BatchStoppedError",
    "Budget",
    "CancelledItemError",
    "ClientWire",
    "JournalError",
    "JournalLockedError",
    "JournalMismatchError",
    "Limit",
    "LimitChange",
    "Progress",
    "Rates",
    "Settings",
    "SourceError",
    "read_results",
]
