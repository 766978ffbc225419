"""Tests of the DNS of sending domains."""
