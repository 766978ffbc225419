"""The classifier: the evidence on each recipient domain, and the verdict on it."""
