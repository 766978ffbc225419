"""Records that were read a moment ago."""

import pytest

from services.classifier import cache as cache_module
from services.classifier.cache import Cache


class Clock:
    """A time that stands still until it is moved."""

    seconds = 100.0

    def __call__(self) -> float:
        """Give the time."""
        return self.seconds


def test_nothing_is_older_than_its_time() -> None:
    """A thing is forgotten when its time has passed since the reading began, not since it ended."""
    clock = Clock()
    cache = Cache[str](5, clock)
    read_at = cache.now()
    clock.seconds += 2
    cache.keep("a", "thing", read_at)

    clock.seconds += 2.9
    assert cache.get("a") == "thing"
    clock.seconds += 0.1
    assert cache.get("a") is None


def test_off() -> None:
    """With no time at all nothing is kept."""
    cache = Cache[str](0, Clock())
    cache.keep("a", "thing", cache.now())

    assert cache.get("a") is None


def test_its_size_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was kept first leaves for what comes next; what is kept anew is young again."""
    monkeypatch.setattr(cache_module, "MOST", 2)
    cache = Cache[str](5, Clock())
    for name in ("a", "b", "a", "c"):
        cache.keep(name, name, cache.now())

    assert [cache.get(name) for name in "abc"] == ["a", None, "c"]
