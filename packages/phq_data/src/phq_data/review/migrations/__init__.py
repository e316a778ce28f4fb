"""Alembic migrations of the live store; `database.Database.open` runs them."""
