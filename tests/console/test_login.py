"""Where a login leads."""

import pytest

from services.console.login import local_path


@pytest.mark.parametrize("path", ["/", "/audit", "/messages?recipient=ann%40example.com"])
def test_a_path_of_this_site_is_kept(path: str) -> None:
    """The page that was asked for comes after the login."""
    assert local_path(path) == path


@pytest.mark.parametrize(
    "target",
    ["", "audit", "//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nX: y"],
)
def test_anything_else_is_the_first_page(target: str) -> None:
    """No target leads to another site or into a header."""
    assert local_path(target) == "/"
