"""An SMTP server that keeps what it gets and misbehaves when it is told to."""
