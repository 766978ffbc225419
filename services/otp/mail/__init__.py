"""The mail that carries a code: its templates and translations."""
