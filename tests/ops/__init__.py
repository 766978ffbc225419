"""The tools that a person runs."""
