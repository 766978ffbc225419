"""The versions of this service's tables, applied in order at start."""
