"""The evidence on each recipient domain, and what it says of it."""
