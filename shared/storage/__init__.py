"""The tables of a service, on SQLite or PostgreSQL."""
