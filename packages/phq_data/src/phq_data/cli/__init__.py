"""The `phq` program: one module a group of commands."""
