"""An SMTP server for tests, with a mailbox, and with faults on request."""
