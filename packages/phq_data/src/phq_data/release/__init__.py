"""Releases: versioned, verifiable, comparable sets of portraits. `reader.open` reads one."""
