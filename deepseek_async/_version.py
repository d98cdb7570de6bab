"""The version, read by the build and by `deepseek_async.__version__`."""

__version__ = "0.1.0"
