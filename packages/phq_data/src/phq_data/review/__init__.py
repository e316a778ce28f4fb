"""Decisions of people about portraits (the schema only, so far)."""
