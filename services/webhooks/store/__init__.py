"""The endpoints, the events for each, and the tries in the database."""
