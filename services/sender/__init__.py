"""The sender: sends mail through SMTP relays and publishes the outcome for each recipient."""
