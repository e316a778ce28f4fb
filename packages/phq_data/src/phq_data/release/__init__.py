"""Releases of a dataset (not built yet)."""
