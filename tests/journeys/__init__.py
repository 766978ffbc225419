"""Journeys: the real processes, met only as a user meets them, by HTTP, AMQP and SMTP."""
