"""How Alembic runs a service's migrations: on the connection that `shared.database` opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
