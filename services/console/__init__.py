"""The operator's page: what goes on in the pipeline, and what may be done about it."""
