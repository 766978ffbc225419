"""Pure: whose turn it is, in proportion to weights."""

from collections.abc import Collection, Mapping


class Turns:
    """Stride scheduling: each turn puts who had it back by one over the weight.

    Who was away for a while does not make up for it with a burst.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._strides = {name: 1 / weight for name, weight in weights.items()}
        self._due = dict.fromkeys(weights, 0.0)
        self._now = 0.0

    def next(self, able: Collection[str]) -> str:
        """Choose among those that are able, at least one."""
        self._now, chosen = min((max(self._due[name], self._now), name) for name in able)
        self._due[chosen] = self._now + self._strides[chosen]
        return chosen
