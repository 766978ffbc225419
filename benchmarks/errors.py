"""What stops a measurement."""


class BenchError(Exception):
    """It could not be measured, or the counts do not add up; the message is one line."""
