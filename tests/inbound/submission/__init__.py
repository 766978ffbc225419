"""Tests of the submission door."""
