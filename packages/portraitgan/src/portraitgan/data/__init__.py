"""Portraits of a release for training: labels, decoded pixels, their order, batches."""
