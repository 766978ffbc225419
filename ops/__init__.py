"""What a person runs: the local stack, dead letters, the SMTP simulator."""
