"""Pure: the limits of a JSON body that are checked before it is parsed.

A parser makes an object of every value, and a body of four million empty lists has 12 MB: parsed it
takes gigabytes (issue 10, A2). Values are counted first, at the speed of memory.
"""

# A report of 1,000 events has 8,000. Fields that a contract ignores are counted too.
MAX_VALUES = 50_000
_QUOTES = 4 * MAX_VALUES  # around each value and the name of its field


def check_size(body: bytes, max_bytes: int) -> None:
    """Refuse a body of more than `max_bytes`, or of more than MAX_VALUES values.

    Raises ValueError. A body that is no JSON is left to the parser: up to where that stops, all
    values are counted.
    """
    if len(body) > max_bytes:
        raise ValueError(f"must have at most {max_bytes} bytes, not {len(body)}")
    if _separators(body) > MAX_VALUES and _has_too_many_values(body):
        raise ValueError(f"must have at most {MAX_VALUES} values")


def _has_too_many_values(body: bytes) -> bool:
    """Count what separates values, but for what stands in texts: a letter may have many commas."""
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    if bare.count(b'"') > _QUOTES:
        return True
    return _separators(b"".join(bare.split(b'"')[::2])) > MAX_VALUES


def _separators(body: bytes) -> int:
    """Count the marks of which each value but the outermost has one before it."""
    if len(body) <= MAX_VALUES:
        return 0  # as nearly always, and a count could say nothing else
    return body.count(b",") + body.count(b"[") + body.count(b"{")
