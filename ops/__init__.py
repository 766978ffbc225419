"""Programs for operators: the local stack, dead letters, the SMTP simulator."""
