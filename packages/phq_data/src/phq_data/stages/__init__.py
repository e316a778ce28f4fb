"""The stages of a build: pure functions from a batch of rows to a batch of rows."""
