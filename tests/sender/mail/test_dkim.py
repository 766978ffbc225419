"""Tests of DKIM: our signatures, checked by a verifier that is checked by published ones."""

import base64
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_der_public_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from services.sender.mail import dkim
from services.sender.mail.dkim import DkimKey, relaxed_body, relaxed_field
from tests.sender import verifier
from tests.sender.keys import ED25519, PUBLIC, RSA, SIGNER
from tests.sender.verifier import fields, signatures, verifies

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
MAIL = (
    b"Date: Sat, 21 Nov 2026 12:00:00 +0000\r\n"
    b"From: Post <post@our.example>\r\n"
    b"To: anna@x.example,\r\n Ben <ben@x.example>\r\n"
    b"Subject: Hello\r\n"
    b"Message-ID: <mail-1@our.example>\r\n"
    b"List-Unsubscribe: <https://our.example/u/1>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    b"X-Campaign: 7\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 7bit\r\n"
    b"\r\n"
    b"Hi.\r\n\r\n..  We lost \t the game. \r\n\r\n\r\n"
)
# RFC 8463 A, with line ends of the wire: a mail of which both signatures are known to be good.
FOOTBALL = b"""\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
""".replace(b"\n", b"\r\n")
FOOTBALL_ED25519 = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
FOOTBALL_RSA = (
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/"
    "J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLz"
    "BfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
)
# Octets that matter to a canonical form, among any others that a body may have.
LINES = st.lists(st.text("a. \t-=", max_size=8), max_size=8).map(
    lambda lines: "\r\n".join(lines).encode()
)
SHORT_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 -- that it is refused is the test
PrivateKey = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


def test_published_signatures() -> None:
    """The verifier of these tests accepts the signatures of RFC 8463 A, and no changed ones."""
    by_ed25519, by_rsa = signatures(FOOTBALL)
    rsa_key = load_der_public_key(base64.b64decode(FOOTBALL_RSA))
    assert isinstance(rsa_key, rsa.RSAPublicKey)
    ed25519_key = ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(FOOTBALL_ED25519))

    assert verifies(FOOTBALL, by_ed25519, ed25519_key)
    assert verifies(FOOTBALL, by_rsa, rsa_key)
    assert not verifies(FOOTBALL.replace(b"lost", b"won"), by_rsa, rsa_key)
    assert not verifies(FOOTBALL.replace(b"dinner", b"lunch"), by_ed25519, ed25519_key)


def test_published_key() -> None:
    """With the Ed25519 key and the fields of RFC 8463 A our signature is the published one.

    The secret is that of RFC 8463 A.1; Ed25519 has one signature for one text.
    """
    secret = base64.b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    (field, *_) = signatures(FOOTBALL)
    names = [*field.names]
    named = {each.partition(b":")[0].lower(): each for each in fields(FOOTBALL)}
    covered = [relaxed_field(named[name.encode()]) for name in names[:5]]
    unsigned = relaxed_field(re.sub(rb"b=/[^;]*", b"b=", field.field))

    made = DkimKey("brisbane", ed25519.Ed25519PrivateKey.from_private_bytes(secret)).sign(
        b"".join(each + b"\r\n" for each in covered) + unsigned
    )

    assert base64.b64encode(made).decode() == re.sub(r"\s", "", field.tags["b"])


@pytest.mark.parametrize(
    ("field", "canonical"),
    [(b"A: X ", b"a:X"), (b"B : Y\t\r\n\tZ  ", b"b:Y Z"), (b"c:", b"c:"), (b"D:  \t", b"d:")],
)
def test_fields_of_the_standard(field: bytes, canonical: bytes) -> None:
    """Fields have the canonical forms of RFC 6376 3.4.5, empty values too."""
    assert relaxed_field(field) == canonical


@pytest.mark.parametrize(
    ("body", "canonical"),
    [
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C\r\nD E\r\n"),
        (b"", b""),
        (b"\r\n", b""),
        (b" \t\r\n \r\n", b""),
        (b"a", b"a\r\n"),
        (b"a \t", b"a\r\n"),
    ],
)
def test_bodies_of_the_standard(body: bytes, canonical: bytes) -> None:
    """Bodies have the canonical forms of RFC 6376 3.4.5, empty or unterminated ones too."""
    assert relaxed_body(body) == canonical


@given(body=LINES)
def test_canonical_body(body: bytes) -> None:
    """Any body has the canonical form that results from the standard's steps one by one."""
    assert relaxed_body(body) == verifier.relaxed_body(body)


@given(value=st.lists(st.text("a: \t", max_size=6), max_size=4).map("\r\n ".join))
def test_canonical_field(value: str) -> None:
    """Any field, folded or not, has the canonical form of the standard's steps."""
    field = f"Name:{value}".encode()

    assert relaxed_field(field) + b"\r\n" == verifier.relaxed_field(field)


def test_signed() -> None:
    """A mail gets one signature for each key, RSA first, and is otherwise unchanged."""
    signed = SIGNER.sign(MAIL, AT)

    found = signatures(signed)
    assert signed.endswith(MAIL)
    assert [verifies(signed, *each) for each in zip(found, PUBLIC, strict=True)] == [True, True]
    assert [each.tags["a"] for each in found] == ["rsa-sha256", "ed25519-sha256"]
    assert [(each.tags["d"], each.tags["s"]) for each in found] == [
        ("our.example", "r1"),
        ("our.example", "e1"),
    ]
    assert {each.tags["t"] for each in found} == {str(int(AT.timestamp()))}
    assert not any("l" in each.tags for each in found)


def test_signed_again() -> None:
    """The next attempt has the same octets."""
    assert SIGNER.sign(MAIL, AT) == SIGNER.sign(MAIL, AT)


def test_lines() -> None:
    """A signature's lines are short, and folded only where that is allowed."""
    head = SIGNER.sign(MAIL, AT).removesuffix(MAIL)

    assert max(map(len, head.split(b"\r\n"))) <= 78
    assert head.isascii()
    assert all(line[:1] in b" D" for line in head.split(b"\r\n"))


def test_what_is_signed() -> None:
    """Headers that mail programs show or use are signed; headers that relays change are not."""
    names = signatures(SIGNER.sign(MAIL, AT))[0].names

    assert names.count("from") == names.count("subject") == names.count("to") == 2
    assert names.count("cc") == names.count("reply-to") == 1  # none is there, none can be added
    assert {"list-unsubscribe", "list-unsubscribe-post", "content-type", "mime-version"} <= {*names}
    assert "x-campaign" not in names


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Subject: Hello", b"Subject: Hallo"),
        (b"Subject: Hello", b"Subject: Hello\r\nSubject: Hello"),
        (b"From: Post", b"From: Eve <eve@bad.example>\r\nFrom: Post"),
        (b"MIME-Version", b"Reply-To: eve@bad.example\r\nMIME-Version"),
        (b"MIME-Version", b"Cc: eve@bad.example\r\nMIME-Version"),
        (b"/u/1", b"/u/2"),
        (b"One-Click", b"Two-Clicks"),
        (b"text/plain", b"text/html"),
        (b"We lost", b"We won"),
        (b"Welost", b"W elost"),
        (b"\r\n\r\n\r\n", b"\r\n\r\nmore\r\n"),
    ],
)
def test_changed(old: bytes, new: bytes) -> None:
    """Any change, and any header added where a mail program would show it, breaks the signature."""
    signed = SIGNER.sign(MAIL.replace(b"We lost", b"We lost Welost"), AT)
    changed = signed.replace(old, new)

    assert changed != signed
    assert not verifies(changed, signatures(changed)[0], PUBLIC[0])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Subject: Hello", b"SUBJECT:  \tHello "),
        (b",\r\n Ben", b", Ben"),
        (b"We lost \t the", b"We   lost the"),
        (b"game. \r\n\r\n\r\n", b"game.\r\n"),
        (b"X-Campaign: 7\r\n", b""),
        (b"DKIM-Signature", b"Received: by mx.example\r\nDKIM-Signature"),
    ],
)
def test_rewrapped(old: bytes, new: bytes) -> None:
    """Changes by relays to blanks, folds, case and the last line end break no signature."""
    signed = SIGNER.sign(MAIL, AT)
    changed = signed.replace(old, new, 1)

    assert changed != signed
    assert verifies(changed, signatures(changed)[0], PUBLIC[0])


@settings(max_examples=30)  # an RSA signature each
@given(body=LINES)
def test_any_body(body: bytes) -> None:
    """Both signatures of any body are good."""
    signed = SIGNER.sign(MAIL.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body, AT)

    assert all(verifies(signed, *each) for each in zip(signatures(signed), PUBLIC, strict=True))


def test_repeated_fields() -> None:
    """Both of two fields of one name are signed, the last one first (RFC 6376 5.4.2)."""
    signed = SIGNER.sign(b"To: ben@x.example\r\n" + MAIL, AT)

    found = signatures(signed)[0]
    assert found.names.count("to") == 3
    assert verifies(signed, found, PUBLIC[0])


def pem(key: PrivateKey, encryption: KeySerializationEncryption | None = None) -> bytes:
    """Return a key in PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def put(directory: Path, name: str, content: bytes) -> None:
    """Write a file and its parent folders."""
    file = directory / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_bytes(content)


def test_read(tmp_path: Path) -> None:
    """Each domain has its signer, whose RSA key comes first with any selectors."""
    put(tmp_path, "our.example/z1.pem", pem(RSA))
    put(tmp_path, "our.example/a1.pem", pem(ED25519))
    put(tmp_path, "our.example/z1.txt", b"what stands in the DNS")
    put(tmp_path, "xn--bcher-kva.example/2026.mail.pem", pem(RSA))
    put(tmp_path, "..data/ours", b"an orchestrator's own")

    signers = dkim.read_signers(str(tmp_path))

    assert {
        domain: [(key.selector, key.algorithm) for key in signer.keys]
        for domain, signer in signers.items()
    } == {
        "our.example": [("z1", "rsa-sha256"), ("a1", "ed25519-sha256")],
        "xn--bcher-kva.example": [("2026.mail", "rsa-sha256")],
    }
    assert all(signer.domain == domain for domain, signer in signers.items())


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"our.example/s.pem": b"no key"}, "our.example/s.pem: must be a private key in PEM"),
        ({"our.example/s.pem": b""}, "our.example/s.pem: must be a private key in PEM"),
        ({"our.example/s.pem": pem(RSA, BestAvailableEncryption(b"x"))}, "without a password"),
        ({"our.example/s.pem": pem(SHORT_RSA)}, "our.example/s.pem: must be an RSA key of 2048"),
        ({"our.example/s.pem": pem(ec.generate_private_key(ec.SECP256R1()))}, "of RSA or Ed25519"),
        ({"our.example/s_1.pem": pem(RSA)}, "our.example/s_1.pem: must be named after a selector"),
        ({"our.example/-s.pem": pem(RSA)}, "must be named after a selector"),
        ({"our.example/s.pem": pem(ED25519)}, "our.example: must hold one RSA key"),
        ({"our.example/a.pem": pem(RSA), "our.example/b.pem": pem(RSA)}, "must hold one RSA key"),
        ({"our.example/s.key": pem(RSA)}, "our.example: must hold one RSA key"),
        ({"Our.example/s.pem": pem(RSA)}, "Our.example: must be named after a domain"),
        ({"bücher.example/s.pem": pem(RSA)}, "bücher.example: must be named after a domain"),
        ({"our/s.pem": pem(RSA)}, "our: must be named after a domain"),
        ({"s.pem": pem(RSA)}, "s.pem: cannot be read, Not a directory"),
    ],
)
def test_refused(tmp_path: Path, files: dict[str, bytes], named: str) -> None:
    """An unusable file is named with its required form, without its content."""
    for name, content in files.items():
        put(tmp_path, name, content)

    with pytest.raises(ValueError, match=named) as caught:
        dkim.read_signers(tmp_path)

    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("directory", [5, True, None, ["keys"]], ids=str)
def test_no_path(directory: object) -> None:
    """A setting that is no path is a ValueError."""
    with pytest.raises(ValueError, match="must be the path of a directory"):
        dkim.read_signers(directory)


def test_nowhere(tmp_path: Path) -> None:
    """A missing directory is named."""
    with pytest.raises(ValueError, match=r"nowhere: cannot be read"):
        dkim.read_signers(tmp_path / "nowhere")


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """A key that other users of the machine can read is refused."""
    put(tmp_path, "our.example/s.pem", pem(RSA))
    (tmp_path / "our.example" / "s.pem").chmod(0o640)

    with pytest.raises(ValueError, match=r"others can read .+s\.pem \(mode 0640\): chmod 600"):
        dkim.read_signers(str(tmp_path))
