"""The scheduler: content types, subscriptions, and mails that are due later."""
