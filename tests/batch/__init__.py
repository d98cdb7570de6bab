"""The batch runner: fakes beside the tests."""
