"""The code that all services share: messages, topology, storage, runtime, settings."""
