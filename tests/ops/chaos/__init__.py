"""Tests of the faults and of their load."""
