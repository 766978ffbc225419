"""The simulator, tested by real SMTP and HTTP clients."""
