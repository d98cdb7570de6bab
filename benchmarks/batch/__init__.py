"""The batch runner's promises, measured.

Each module is a script: `goodput`, `million`, `kill`, `faults`, `outage`, `interrupt`,
`prefixes`, as in `python -m benchmarks.batch.goodput`.
"""
