"""Tests of the contracts, a file for each kind."""
