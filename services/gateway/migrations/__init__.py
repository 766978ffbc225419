"""The gateway's tables, version by version."""
