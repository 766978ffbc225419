"""Tests of the tables of the classifier."""
