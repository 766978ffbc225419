"""The resources of the HTTP API: their operations, schemas, views and answers."""
