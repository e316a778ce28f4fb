"""Benchmarks of all packages, in no wheel: `python -m benchmarks.step`."""
