"""Pure: how long a client would like to wait (RFC 7240, `Prefer: wait=10`)."""

from collections.abc import Sequence

MAX_DIGITS = 9  # a longer number means no more than this one, but would cost time to read


def wait(headers: Sequence[str], at_most: int) -> int:
    """Give the seconds to wait, 0 when no wait is asked for.

    The first `wait` counts, as RFC 7240 2 has it; what cannot be understood is no preference.
    """
    for preference in ",".join(headers).split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            digits = value.strip().strip('"')
            readable = digits.isascii() and digits.isdigit()
            return min(int(digits[:MAX_DIGITS]), at_most) if readable else 0
    return 0
