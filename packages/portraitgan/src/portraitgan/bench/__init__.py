"""Measurements: `python -m portraitgan.bench deformation` and `step`."""
