"""Tests of how replies are put together from what the network delivers."""

from collections import deque
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sender.reader import LINE_OCTETS, REPLY_LINES, Answer, Garbled, Reader

REPLIES = (
    b"250 OK\r\n250-one\r\n250-two\r\n250 three\r\n354\r\n550 5.1.1 gr\xc3\xbc\xff\r\n421 Bye\n"
)
ANSWERS = [
    Answer(250, "OK"),
    Answer(250, "one\ntwo\nthree"),
    Answer(354, ""),
    Answer(550, "5.1.1 grü\udcff"),
    Answer(421, "Bye"),
]


@given(st.sets(st.integers(1, len(REPLIES) - 1)))
def test_any_cut(cuts: set[int]) -> None:
    """However the octets are cut, down to one at a time, the replies are the same."""
    reader = Reader()
    edges = [0, *sorted(cuts), len(REPLIES)]
    pieces = [REPLIES[begin:end] for begin, end in pairwise(edges)]

    assert [answer for piece in pieces for answer in reader.feed(piece)] == ANSWERS


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_any_octets(pieces: list[bytes]) -> None:
    """Whatever arrives is a reply or garbled, and nothing else happens."""
    reader = Reader()
    try:
        answers = [answer for piece in pieces for answer in reader.feed(piece)]
    except Garbled:
        return

    assert all(0 <= answer.code <= 999 for answer in answers)


@pytest.mark.parametrize(
    "garbage",
    [
        b"What\r\n",
        b"\r\n",
        b"25\r\n",
        b"\xb2\xb2\xb2 OK\r\n",
        b"250-one\r\n550 two\r\n",
        b"250 " + b"x" * LINE_OCTETS,
        b"250 " + b"x" * LINE_OCTETS + b"\r\n",
        b"250-x\r\n" * (REPLY_LINES + 1),
        (b"250-" + b"x" * 1000 + b"\r\n") * 66,
    ],
)
def test_garbled(garbage: bytes) -> None:
    """What is no reply, has two codes or no end is refused; replies before it are given."""
    answers: deque[Answer] = deque()

    with pytest.raises(Garbled):
        answers.extend(Reader().feed(b"250 OK\r\n" + garbage))

    assert list(answers) == [Answer(250, "OK")]


@pytest.mark.parametrize("text", ["250 " + "x" * 2000, "250-x\r\n" * (REPLY_LINES - 1) + "250 x"])
def test_generous(text: str) -> None:
    """More than RFC 5321 allows is read, as far as anybody can need it."""
    [answer] = Reader().feed(text.encode() + b"\r\n")

    assert answer.code == 250
