"""The scheduler's tables and the statements on them."""
