"""From sources to tables: which files, which parts, which stage next."""
