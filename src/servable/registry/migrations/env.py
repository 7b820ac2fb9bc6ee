"""Run by alembic: migrate over the connection that ``upgrade`` handed in."""

from alembic import context

from servable.registry.tables import metadata

# The caller's transaction holds everything, so a migration that fails or is killed leaves nothing.
context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True
)
with context.begin_transaction():
    context.run_migrations()
