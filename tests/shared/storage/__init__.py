"""Tests of the tables of a service."""
