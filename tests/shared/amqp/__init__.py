"""Tests of the AMQP client."""
