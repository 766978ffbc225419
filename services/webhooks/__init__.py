"""The service that sends events to the https endpoints of clients."""
