"""Fuzz targets, guided by coverage.

Each target takes any bytes and raises nothing, or it has found a defect. They are
plain functions: atheris drives them for as long as it is told to, hypothesis drives
them in every test run (`tests/test_properties.py`).

Atheris comes with the `fuzz` extra (on Linux)::

    pip install -e '.[test,fuzz]'
    PYTHONPATH=tests python -m fuzz sse     -max_total_time=600
    PYTHONPATH=tests python -m fuzz chunks  -max_total_time=600
    PYTHONPATH=tests python -m fuzz errors  -max_total_time=600
    PYTHONPATH=tests python -m fuzz answers -max_total_time=600

What follows the name is libFuzzer's, a corpus directory included; the seeds of
`fuzz.seeds` are always used as well. The last line says how many inputs were run. An
input that fails is written to `crash-...`; give its path as the argument to run it
alone, and keep it as a test.
"""
