"""Pure: how long many answers took."""

import math
from collections.abc import Sequence

_MILLISECONDS = 1000
_SHARES = (0.5, 0.95, 0.99)


def percentile(values: Sequence[float], share: float) -> float:
    """Give the least of `values` that at least `share` (0 to 1) of them do not exceed."""
    rank = math.ceil(share * len(values))  # the nearest-rank method: always a value that was seen
    return sorted(values)[max(rank, 1) - 1]


def told(seconds: Sequence[float]) -> str:
    """Tell how it was for most, and for the unluckiest."""
    if not seconds:
        return "-"
    ordered = sorted(seconds)
    shares = (f"p{share * 100:.0f} {_shown(percentile(ordered, share))}" for share in _SHARES)
    return "   ".join((*shares, f"most {_shown(ordered[-1])}"))


def _shown(seconds: float) -> str:
    return f"{seconds * _MILLISECONDS:,.1f} ms" if seconds < 1 else f"{seconds:,.2f} s"
