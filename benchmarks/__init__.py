"""Benchmarks: `make bench-...` runs them; none is in a wheel."""
