"""Tests of the door for reports."""
