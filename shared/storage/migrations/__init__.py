"""The environment that Alembic runs in; each service has migrations of its own."""
