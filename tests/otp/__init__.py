"""Tests of the otp service."""
