"""Tests of texts with placeholders."""

import pytest

from services.otp.mail.translations import (
    MAX_SENTENCE_CHARS,
    check_layout,
    check_no_link,
    check_sentence,
    fill,
    fill_lines,
)

NONE = frozenset[str]()
LIFETIME = frozenset({"lifetime"})
CODE = frozenset({"code"})


def test_filled_once() -> None:
    """A placeholder in a value is not replaced, so that no product name shows the code."""
    values = {"product": "{code} {product}", "code": "012345"}

    assert fill("{product}: {code}", values) == "{code} {product}: 012345"


def test_braces_of_other_languages() -> None:
    """Other braces stay as they are."""
    assert fill("p { margin: 0 } {} {A} { code }", {}) == "p { margin: 0 } {} {A} { code }"


def test_lines_without_a_word() -> None:
    """A line with an empty value is dropped; an empty line stays."""
    assert fill_lines("a {x}\n\n<p>{y}</p>\nb", {"x": "1", "y": ""}) == "a 1\n\nb\n"


@pytest.mark.parametrize("text", ["It lives {lifetime}.", "{lifetime}", "Có hiệu lực {lifetime}"])
def test_sentence(text: str) -> None:
    """A sentence with its placeholders is returned."""
    assert check_sentence(text, LIFETIME) == text


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "must have 1 to 300 characters"),
        (" {lifetime}", "without outer spaces"),
        ("{lifetime}" + "x" * MAX_SENTENCE_CHARS, "must have 1 to 300 characters"),
        ("{lifetime}\r\nBcc: eve@example.com", "must have no control characters"),
        ("{lifetime}\x00", "must have no control characters"),
        ("=?utf-8?q?{lifetime}?=", "no encoded words"),
        ("For ever.", r"must have \{lifetime\}"),
        ("{lifetime} {product}", r"must not have \{product\}"),
        ("{lifetime} {code}", r"must not have \{code\}, whose place is in the layouts"),
        ("{lifetime} {", "must have no braces"),
        ("{ lifetime }", "must have no braces"),
        ("{lifetime.__class__}", "must have no braces"),
        ("{lifetime} https://example.com", "must have no link"),
    ],
)
def test_sentence_refused(text: str, mistake: str) -> None:
    """The error of a sentence names what is missing or not allowed."""
    with pytest.raises(ValueError, match=mistake):
        check_sentence(text, LIFETIME)


def test_all_mistakes_of_a_sentence() -> None:
    """The error of a sentence names all mistakes at once."""
    with pytest.raises(
        ValueError, match=r"spaces; .*\{code\}.*; .*\{lifetime\}; must have no link"
    ):
        check_sentence(" {code} at www.example.com", LIFETIME)


@pytest.mark.parametrize(
    "text",
    [
        "http://example.com",
        "HTTPS://example.com",
        "WWW.example.com",
        "mailto:anna@example.com",
        "tel:112",
        '<a name="x">',
        "<A HREF=x>",
        '<td background = "x">',
        "<img>",
        '<button formaction="x" action="y">',
        "<svg/>",
        "<base>",
        '<p style="background: url(x)">',
        "<style>@import 'x';</style>",
    ],
)
def test_links(text: str) -> None:
    """A text that a mail program turns into a link, or loads, is refused."""
    with pytest.raises(ValueError, match="must have no link"):
        check_no_link(text)


@pytest.mark.parametrize("text", ["Booking.com", "<abbr>a</abbr>", "url=no", "tel. 112", "A/B: c"])
def test_no_links(text: str) -> None:
    """A text without a link is returned."""
    assert check_no_link(text) == text


def test_layout() -> None:
    """A layout may have optional placeholders, and braces of its own."""
    text = "<style>p { margin: 0 }</style>\n<title>{subject}</title>\n  {code}\n"

    assert check_layout(text, CODE, frozenset({"subject"})) == text


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", r"must have \{code\}"),
        ("Your code: {code}\n", r"must have \{code\} alone on its line"),
        ("<p>{code}</p>\n", r"must have \{code\} alone on its line"),
        ("{code}\nAgain: {code}\n", r"must have \{code\} alone on its line"),
        ("{code}\n{product}\n", r"must not have \{product\}"),
        ("{code}\n<a>\n", "must have no link"),
    ],
)
def test_layout_refused(text: str, mistake: str) -> None:
    """The error of a layout names what is missing or not allowed."""
    with pytest.raises(ValueError, match=mistake):
        check_layout(text, CODE, NONE)
