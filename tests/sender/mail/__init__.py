"""Tests of the mail as octets."""
