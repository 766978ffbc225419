"""Tests of the settings and their layers."""
