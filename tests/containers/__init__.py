"""Tests on RabbitMQ and PostgreSQL in containers, and of the whole stack in containers."""
