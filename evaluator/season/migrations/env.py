"""Runs migrations on the connection, in the transaction, that `Database.migrate` gives."""

from alembic import context

from evaluator.season import schema

context.configure(connection=context.config.attributes["connection"], target_metadata=schema.metadata)
context.run_migrations()
