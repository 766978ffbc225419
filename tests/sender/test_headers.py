"""Tests of header lines: those of a caller's own and parameters; the others in test_compose."""

from email import message_from_string, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sender import headers
from shared.header import MAX_LINE


def read(line: str) -> str:
    """Give the value of one header as a reader finds it."""
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
    """What is plain is neither folded nor encoded, however long the one word in it is."""
    assert headers.custom(name, value) == f"{name}: {value}\r\n"


@pytest.mark.parametrize("value", ["Frühling", "漢" * 900, "a\r\nBcc: eve@x.example", "=?a?q?b?="])
def test_any_text(value: str) -> None:
    """What is not plain is encoded, so that nothing in it ends a line."""
    line = headers.custom("X-Campaign", value)

    assert line.isascii()
    assert "\r\nBcc" not in line
    assert line.count("\r\n") == line.count("\r\n ") + 1


def test_thread() -> None:
    """Of a long thread every id has a line of its own."""
    ids = [f"<{'a' * 100}{number}@our.example>" for number in range(50)]

    line = headers.custom("References", " ".join(ids))

    assert read(line).split() == ids
    assert max(map(len, line.split("\r\n"))) < MAX_LINE


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
    """A list's name may be in any Unicode, its id stays as it is (RFC 2919)."""
    assert headers.custom("List-Id", value) == line


FILE_NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60)


@given(name=FILE_NAMES.filter(lambda name: name == name.strip()))
def test_parameter(name: str) -> None:
    """A file's name in any Unicode comes back as it was, from lines that fit."""
    line = f"Content-Disposition: attachment{headers.parameter('filename', name)}\r\n"
    message = message_from_string(line + "\r\n", policy=policy.default)

    assert message.get_filename() == name
    assert line.isascii()
    assert max(map(len, line.split("\r\n"))) <= MAX_LINE
