"""What crosses process borders; nothing about mail policy or codes."""
