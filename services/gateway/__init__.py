"""The HTTP door: it checks, publishes with a confirm, and answers."""
