"""What stops the stack from coming up."""


class StackError(Exception):
    """The stack cannot go on; the message tells a person in one line what to do."""
