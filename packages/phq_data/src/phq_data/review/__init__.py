"""Decisions of people about portraits: the log, and the consensus that a release is made from."""
