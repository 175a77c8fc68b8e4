"""Alembic's entry: runs the steps on the connection, and in the transaction, of the caller."""

from alembic import context

from adapters_registry.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
)
context.run_migrations()
