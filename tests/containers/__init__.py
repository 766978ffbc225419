"""On RabbitMQ 4.0 and PostgreSQL 17 in containers, and the whole in containers of its own."""
