"""Sends mail through an SMTP relay and tells what became of each."""
