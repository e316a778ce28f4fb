"""Prefect flows: thin compositions of phq_data functions."""
