"""Benchmarks: this library, the `openai` client and raw aiohttp, interleaved.

`python -m benchmarks [all|stream|live|request|concurrency|decode|import|memory]`
prints one table per benchmark; `--write` regenerates `RESULTS.md` and the plots.

How it measures
    * A server process (`server.py`) sends bytes encoded beforehand, on a core of
      its own; its CPU share is printed so that it is seen not to be the bottleneck.
    * Every peer lives in a fresh client process of its own (`worker.py`), all on
      the other core. The driver (`lab.py`) lets them take turns, round after round,
      in one call: a slow moment of the machine hits all of them.
    * The figure is CPU time of the client process (user and system) over a window
      that leaves out import, construction and warm-up; wall time stands beside it.
    * Every peer's answer is counted; a peer that loses a chunk fails the run.
"""
