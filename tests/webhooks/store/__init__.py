"""Tests of the tables of the webhooks, on both databases."""
