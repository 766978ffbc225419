"""Journeys: the real processes, reached as a user reaches them, by HTTP, AMQP and SMTP."""
