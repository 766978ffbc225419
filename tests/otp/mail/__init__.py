"""Tests of the mail that carries a code."""
