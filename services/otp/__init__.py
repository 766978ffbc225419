"""One-time codes: issued, mailed, verified once, forgotten."""
