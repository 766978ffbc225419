"""Tests of header lines: custom ones and parameters; the others are in test_compose."""

from email import message_from_string, policy

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.sender.mail import headers
from shared.contracts.header import MAX_LINE_CHARS


def read(line: str) -> str:
    """Return the value of one header as a mail program parses it."""
    return str(message_from_string(line + "\r\n", policy=policy.default).values()[0])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("List-Unsubscribe", f"<https://our.example/{'u' * 958}>"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        ("Feedback-ID", "spring:shop:news:our"),
        ("X-Campaign", "a" * 900),
    ],
)
def test_as_it_is(name: str, value: str) -> None:
    """A plain value is neither folded nor encoded, even with one long word."""
    assert headers.custom(name, value) == f"{name}: {value}\r\n"


@pytest.mark.parametrize("value", ["Frühling", "漢" * 900, "a\r\nBcc: eve@x.example", "=?a?q?b?="])
def test_any_text(value: str) -> None:
    """Any other value is encoded, so that no character of it ends a line."""
    line = headers.custom("X-Campaign", value)

    assert line.isascii()
    assert "\r\nBcc" not in line
    assert line.count("\r\n") == line.count("\r\n ") + 1


LETTERS = st.characters(categories=["L", "N", "S"], exclude_characters="<>")
NAMES = st.text(LETTERS, min_size=1, max_size=200)
ADDRESSES = st.builds(
    lambda local, domain: f"{'l' * local}@{'d' * domain}.example",
    st.integers(1, 64),
    st.integers(1, 63),
)
MAILBOXES = st.builds(lambda name, bare: f"{name} <{bare}>", NAMES, ADDRESSES) | ADDRESSES


def check_encoded_lines(header: str) -> None:
    """Check that no line is empty, or with an encoded word too long (RFC 2047 2)."""
    lines = header.removesuffix("\r\n").split("\r\n")
    assert all(len(line) <= 76 for line in lines if "=?utf-8?" in line), header
    assert all(len(word) <= 75 for word in header.split() if word.startswith("=?"))
    assert all(line.strip() for line in lines)
    assert all(line.startswith(" ") for line in lines[1:])


@given(name=st.integers(1, 58).map(lambda more: "X-" + "n" * more), value=NAMES)
@example("Subject", "é" * 60)
@example("X-" + "n" * 58, "é")
@example("X-" + "n" * 54, "😀")
def test_encoded_text(name: str, value: str) -> None:
    """A line with an encoded word has at most 76 characters, the field's name counted."""
    header = headers.unstructured(name, value)

    check_encoded_lines(header)
    # Python before 3.13 reads a fold right behind the colon as a blank of the value.
    assert read(header).lstrip() == value


@given(name=st.sampled_from(["To", "Reply-To"]), values=st.lists(MAILBOXES, min_size=1))
@example("From", ["é" * 18 + " <a@x.example>"])
@example("From", ["é" * 22 + f" <{'l' * 64}@x.example>"])
def test_encoded_names(name: str, values: list[str]) -> None:
    """The limit holds with an address behind the name, and a comma behind that."""
    header = headers.mailboxes(name, *values)

    check_encoded_lines(header)
    assert header.count("@") == len(values)


@given(name=NAMES)
def test_encoded_list(name: str) -> None:
    """The limit holds for the name of a list, with any id."""
    check_encoded_lines(headers.custom("List-Id", f"{name} <{'n' * 60}.our.example>"))


def test_thread() -> None:
    """Each id of a long thread has a line of its own."""
    ids = [f"<{'a' * 100}{number}@our.example>" for number in range(50)]

    line = headers.custom("References", " ".join(ids))

    assert read(line).split() == ids
    assert max(map(len, line.split("\r\n"))) < MAX_LINE_CHARS


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("<news.our.example>", "List-Id: <news.our.example>\r\n"),
        ("The news <news.our.example>", "List-Id: The news <news.our.example>\r\n"),
        ('"a, b" <news.our.example>', 'List-Id: "a, b" <news.our.example>\r\n'),
        ("Ä <n.our.example>", "List-Id: =?utf-8?b?w4Q=?= <n.our.example>\r\n"),
    ],
)
def test_list_id(value: str, line: str) -> None:
    """A list's name may be any Unicode, its id is never encoded (RFC 2919)."""
    assert headers.custom("List-Id", value) == line


FILE_NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60)


@given(name=FILE_NAMES.filter(lambda name: name == name.strip()))
def test_parameter(name: str) -> None:
    """A file's name in any Unicode arrives unchanged, in lines of valid length."""
    line = f"Content-Disposition: attachment{headers.parameter('filename', name)}\r\n"
    message = message_from_string(line + "\r\n", policy=policy.default)

    assert message.get_filename() == name
    assert line.isascii()
    assert max(map(len, line.split("\r\n"))) <= MAX_LINE_CHARS
