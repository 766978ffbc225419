"""Tests of the database of the ledger."""
