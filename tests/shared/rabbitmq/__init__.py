"""Tests of the connections to the broker."""
