"""The URLs of endpoints."""

import pytest
from pydantic import TypeAdapter, ValidationError

from shared.contracts.webhooks import WebhookUrl

URL: TypeAdapter[str] = TypeAdapter(WebhookUrl)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("x", "must begin with https://"),
        ("ftp://shop.example/", "must begin with https://"),
        ("https://shop.example:99999/", "a port from 1 to 65535"),
        ("https://[::1/", "must have a host"),
        ("https://", "must have a host"),
        ("https://shop.example/#a", "must have no fragment"),
        ("https://shöp.example/", "ASCII characters alone"),
        ("https://shop.example\\x", "no backslash"),
        ("https://ann@shop.example/", "must have no user"),
    ],
)
def test_a_url_that_no_event_can_be_sent_to_is_refused(text: str, mistake: str) -> None:
    """The error names what is wrong with it."""
    with pytest.raises(ValidationError, match=mistake):
        URL.validate_python(text)


@pytest.mark.parametrize("text", ["https://shop.example/a?b=c", "HTTP://127.0.0.1:8000/"])
def test_a_url_of_an_endpoint_is_taken(text: str) -> None:
    """Whether http is allowed depends on the deployment."""
    assert URL.validate_python(text).lower() == text.lower()
