"""Decisions of people about portraits: the log, and the consensus that a release is made from."""

STORE_FILE = "review/review.sqlite"
"""The live store of a workspace that has no database of its own."""
DATABASE_VARIABLE = "PHQ_REVIEW_DATABASE"
"""Environment variable with the URL of the live store's database, if it is another one."""
