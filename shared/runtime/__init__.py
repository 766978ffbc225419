"""The process of a service: its start and end, health, logs and metrics."""
