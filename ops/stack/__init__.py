"""The local stack: broker, simulator as mailbox and all services, run and watched together."""
