"""How Alembic reaches the database: through the connection that `database` hands it."""

from __future__ import annotations

from alembic import context

from phq_data.review.tables import METADATA

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=METADATA, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
