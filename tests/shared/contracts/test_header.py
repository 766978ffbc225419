"""Header fields that a caller may set, and their forms."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from shared.contracts.header import MAX_HEADERS, MAX_LINE_CHARS, Headers

HEADERS: TypeAdapter[Mapping[str, str]] = TypeAdapter(Headers)
GOOD = {
    "List-Id": "The news <news.our.example>",
    "List-Unsubscribe": "<https://our.example/u/1>, <mailto:u+1@our.example?subject=off>",
    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    "List-Subscribe": "<https://our.example/s>",
    "List-Help": "<mailto:help@our.example>",
    "List-Archive": "<http://our.example/archive>",
    "List-Owner": "<mailto:owner@our.example>",
    "List-Post": "NO",
    "Precedence": "bulk",
    "References": "<a@our.example> <b.c@our.example>",
    "In-Reply-To": "<b.c@our.example>",
    "Feedback-ID": "spring:shop:news:our",
    "X-Campaign": "Frühling, 1 < 2",
}


def refusal(headers: dict[str, str]) -> str:
    """Return the mistakes in some fields."""
    with pytest.raises(ValidationError) as caught:
        HEADERS.validate_python(headers)
    return str(caught.value.errors()[0]["msg"])


def test_all() -> None:
    """All fields of the allow-list, with usual values, stay unchanged and in their order."""
    assert list(HEADERS.validate_python(GOOD).items()) == list(GOOD.items())


def test_spelling() -> None:
    """Names are read in any case, and written in their usual spelling."""
    given_names = {"list-unsubscribe": GOOD["List-Unsubscribe"], "FEEDBACK-id": "a", "x-a": "b"}

    assert list(HEADERS.validate_python(given_names)) == ["List-Unsubscribe", "Feedback-ID", "x-a"]


@pytest.mark.parametrize(
    "name",
    [
        *("From", "to", "Cc", "BCC", "Sender", "Reply-To", "Subject", "Date", "Message-ID"),
        *("Received", "Return-Path", "MIME-Version", "Content-Type", "DKIM-Signature"),
        *("Auto-Submitted", "ARC-Seal", "Authentication-Results", "Resent-From", "X", "X-", "X-ä"),
        *("", "X-A:", "X A", "X-A\r\nBcc", "X-" + "a" * 59, "List-Unknown"),
    ],
)
def test_names_that_may_not_be_set(name: str) -> None:
    """Fields that we write ourselves or that others trust are refused, and so are bad names."""
    assert "must" in refusal({name: "a"})


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize(
    "unsafe", ["\r\nBcc: eve@x.example", "\n", "\r", "\0", "\x85", "\u2028", "=?utf-8?q?=0A?="]
)
def test_no_value_can_start_another_field(name: str, unsafe: str) -> None:
    """A line end, a NUL or an encoded word is refused, not stripped."""
    assert refusal(GOOD | {name: GOOD[name] + unsafe}).startswith(f"Value error, {name} ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("List-Id", "news"),
        ("List-Id", "<news>"),
        ("List-Id", "a, b <news.our.example>"),
        ("List-Unsubscribe", "https://our.example/u"),
        ("List-Unsubscribe", "<javascript:alert(1)>"),
        ("List-Unsubscribe", "<https://our.example/ü>"),
        ("List-Unsubscribe", "<https://our.example/a b>"),
        ("List-Unsubscribe", ""),
        ("List-Unsubscribe-Post", "List-Unsubscribe=Two-Clicks"),
        ("List-Post", "MAYBE"),
        ("Precedence", "very bulk"),
        ("References", "a@our.example"),
        ("References", "<a@our.example><b@our.example>"),
        ("In-Reply-To", ""),
        ("In-Reply-To", f"<{'a' * 900}@our.example>"),
        ("Feedback-ID", "ä"),
        ("X-Campaign", ""),
        ("X-Campaign", " a"),
        ("X-Campaign", "a" * 901),
        ("References", "<a@our.example> " * 600),
    ],
)
def test_values_that_are_wrong(name: str, value: str) -> None:
    """Each field has a form; the mistake names the field and does not repeat its value."""
    text = refusal({name: value})

    assert name in text or "8000 characters" in text
    assert not value or value not in text


def test_longest_link() -> None:
    """A link may fill its line to the last octet, and no more, since it is never folded."""
    room = MAX_LINE_CHARS - len("List-Unsubscribe: <https://our.example/>")
    longest = f"<https://our.example/{'u' * room}>"

    assert HEADERS.validate_python({"List-Unsubscribe": longest}) == {"List-Unsubscribe": longest}
    assert "at most 998 characters together" in refusal(
        {"List-Unsubscribe": f"<https://our.example/{'u' * (room + 1)}>"}
    )


@pytest.mark.parametrize(
    "unsubscribe",
    [
        None,
        "<mailto:u@our.example>",
        "<http://our.example/u>",
        "<https://a.example>, <https://b.example>",
    ],
)
def test_one_click(unsubscribe: str | None) -> None:
    """One-click needs exactly one https link (RFC 8058 3.1)."""
    headers = {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    if unsubscribe:
        headers["List-Unsubscribe"] = unsubscribe

    assert "one https URI" in refusal(headers)


def test_twice() -> None:
    """A field may be there once, in any case of its name."""
    assert "only once" in refusal({"X-Campaign": "1", "x-campaign": "2"})


def test_many() -> None:
    """Their number is limited."""
    assert "at most 50 entries" in refusal(
        {f"X-{number}": "a" for number in range(MAX_HEADERS + 1)}
    )


@given(
    st.dictionaries(st.sampled_from(sorted(GOOD)), st.text() | st.sampled_from(list(GOOD.values())))
)
def test_any_values(headers: dict[str, str]) -> None:
    """An accepted value has no control character, and a second check leaves it unchanged."""
    try:
        checked = HEADERS.validate_python(headers)
    except ValidationError:
        return

    assert HEADERS.validate_python(checked) == checked
    assert all(value.isprintable() or not value.isascii() for value in checked.values())
