"""The batch runner's promises, measured: `python -m benchmarks.batch`."""
