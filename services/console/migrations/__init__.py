"""The versions of the tables of the console."""
