"""Tests of the scheduler's tables."""
