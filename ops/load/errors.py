"""What ends a load run early."""


class LoadError(Exception):
    """The run cannot go on; the message tells a person in one line why."""
