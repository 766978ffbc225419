"""Links in mails: sealed, of one kind each, and short enough for a header field."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import TypeAdapter, ValidationError

from shared.contracts import header
from shared.contracts.fields import MAX_ID_CHARS
from shared.links import (
    MAX_HOST_CHARS,
    MAX_URL_CHARS,
    LinkedSubscription,
    LinkKind,
    Links,
    PublicUrl,
    link_end,
)
from shared.runtime.sealing import Sealer

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
KEY, NEWER = "3d" * 32, "4e" * 32
URL = "https://mail.example"
LINKS = Links(URL, Sealer.from_text(KEY))
ANN = LinkedSubscription(
    kind=LinkKind.UNSUBSCRIBE,
    client="shop",
    email="ann@example.org",
    content_type="news",
    locale="de",
    expires_at=link_end(NOW),
)


def token_of(link: str) -> str:
    """Return the token of a link."""
    return link.rpartition("/")[2]


@pytest.mark.parametrize("kind", LinkKind)
def test_a_link_is_read_as_it_was_made(kind: LinkKind) -> None:
    """The facts come back, and only by the way for which the link was made."""
    made = ANN.model_copy(update={"kind": kind})
    (other,) = set(LinkKind) - {kind}
    link = LINKS.to(made)

    assert link.startswith(f"{URL}/{kind}/")
    assert LINKS.read(kind, token_of(link), NOW) == made
    assert LINKS.read(other, token_of(link), NOW) is None


def test_a_link_shows_nothing() -> None:
    """The same subscription has another token in each mail, without its address."""
    one, other = LINKS.to(ANN), LINKS.to(ANN)

    assert one != other
    assert ANN.email not in one
    assert ANN.email.encode() not in base64.urlsafe_b64decode(token_of(one) + "==")


def test_a_link_works_for_a_year() -> None:
    """A token is unknown from its end on."""
    token = token_of(LINKS.to(ANN))

    assert LINKS.read(ANN.kind, token, NOW + timedelta(days=364))
    assert LINKS.read(ANN.kind, token, ANN.expires_at) is None


def test_a_key_may_be_replaced() -> None:
    """A link is read by any key that the gateway still has, and by no other."""
    token = token_of(LINKS.to(ANN))

    assert Links(URL, Sealer.from_text(f"{NEWER},{KEY}")).read(ANN.kind, token, NOW) == ANN
    assert Links(URL, Sealer.from_text(NEWER)).read(ANN.kind, token, NOW) is None


@pytest.mark.parametrize("token", ["", "x", "a" * 40, "ü", "\udcff", "A" * 3000, "===="])
def test_what_is_no_token_is_unknown(token: str) -> None:
    """No text of a stranger raises."""
    assert LINKS.read(LinkKind.UNSUBSCRIBE, token, NOW) is None


@pytest.mark.parametrize("local", ["a" * 64, "ü" * 32])
def test_the_longest_link_fits_a_header_field(local: str) -> None:
    """A newsletter to any address is one that the sender can read."""
    domain = ".".join(["d" * 61] * 3)  # 250 octets with the local part
    url = f"https://{'h' * 60}.example"
    subscription = LinkedSubscription(
        kind=LinkKind.UNSUBSCRIBE,
        client="c" * MAX_ID_CHARS,
        email=f"{local}@{domain}",
        content_type="t" * MAX_ID_CHARS,
        locale="de-Latn-DE",
        expires_at=link_end(NOW),
    )
    link = Links(url.ljust(MAX_URL_CHARS, "x"), Sealer.from_text(KEY)).to(subscription)
    fields = {header.UNSUBSCRIBE: f"<{link}>", header.ONE_CLICK: "List-Unsubscribe=One-Click"}

    assert header.check_headers(fields) == fields


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://mail.example", "mail.example", "https://mail.example/?a=b", "https:///x"),
        *("https://ann:secret@mail.example", f"https://{'h' * MAX_HOST_CHARS}x"),
        f"https://mail.example/{'ü' * 100}",
    ],
)
def test_a_link_leads_to_a_web_server(url: str) -> None:
    """A setting that no browser could follow is refused."""
    with pytest.raises(ValidationError):
        TypeAdapter(PublicUrl).validate_python(url)


@pytest.mark.parametrize(
    ("url", "kept", "host"),
    [
        (
            "https://Bücher.example/post/",
            "https://xn--bcher-kva.example/post",
            "xn--bcher-kva.example",
        ),
        ("http://[::1]:8080", "http://[::1]:8080", "localhost"),
        ("https://mail.example.", "https://mail.example.", "mail.example"),
    ],
)
def test_the_url_of_links_fits_header_fields(url: str, kept: str, host: str) -> None:
    """A host beyond ASCII is in A-labels, and its name is the end of a List-Id."""
    found = TypeAdapter(PublicUrl).validate_python(url)

    assert found == kept
    assert Links(found, Sealer.from_text(KEY)).host == host
