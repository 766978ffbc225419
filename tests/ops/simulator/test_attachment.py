"""Names, types and images of attachments, the hostile ones too."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.simulator.attachment import (
    FILENAME_CHARS,
    INLINED_OCTETS,
    filename,
    response_headers,
    with_images,
)
from ops.simulator.mail import MailAttachment

IMAGE = MailAttachment("a.png", "image/png", 3, "a&b@x", None, b"abc")


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a\r\nSet-Cookie: x\u202e.txt", "aSet-Cookie_ x.txt"),
        ("x" * 300 + ".pdf", "x" * 96 + ".pdf"),
        ("x" * 300, "x" * 100),
        ("...", "unnamed"),
    ],
)
def test_filename(name: str, plain: str) -> None:
    """A name has no folder, line end or change of direction, and keeps its suffix when cut."""
    assert filename(dataclasses.replace(IMAGE, filename=name)) == plain


@given(st.text(max_size=300), st.text(max_size=60), st.none() | st.text(max_size=60))
def test_headers(name: str, kind: str, charset: str | None) -> None:
    """No name, type or charset can end its header, and no served type can run."""
    hostile = MailAttachment(name, kind, 0, None, charset, b"")
    found = response_headers(hostile)

    assert all(text.isascii() and text.isprintable() for text in found.values())
    assert found["Content-Type"] == "application/octet-stream"
    assert len(filename(hostile)) in range(1, FILENAME_CHARS + 1)
    plain = response_headers(dataclasses.replace(hostile, content_type="text/plain"))
    assert plain["Content-Type"].startswith("text/plain; charset=")
    assert all(text.isascii() and text.isprintable() for text in plain.values())


@pytest.mark.parametrize(
    "reference",
    ["src=cid:a%26b@x", 'src="cid:a&amp;b@x"', "src='CID:a&amp;b@x'", "style='a:url(cid:a%26b@x)'"],
)
def test_reference(reference: str) -> None:
    """An image is found in any spelling of its name (RFC 2392)."""
    assert "data:image/png;base64,YWJj" in with_images(f"<p {reference}>", [IMAGE])


def test_left_alone() -> None:
    """Text, unknown names and types other than images stay as they are."""
    text = "<p>see cid:a&amp;b@x</p><img src=cid:b@x>"
    page = dataclasses.replace(IMAGE, content_type="text/html")

    assert with_images(text, [IMAGE]) == text
    assert with_images("<img src=cid:a%26b@x>", [page]) == "<img src=cid:a%26b@x>"


def test_amplification() -> None:
    """An image that the HTML names a thousand times is not sent a thousand times."""
    large = dataclasses.replace(IMAGE, size=INLINED_OCTETS // 3)

    assert with_images("<img src=cid:a%26b@x>" * 1000, [large]).count("data:") == 3
