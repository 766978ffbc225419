"""Tests of the webhooks: the service, and real receivers."""
