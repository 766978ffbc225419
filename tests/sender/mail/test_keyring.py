"""Tests of the DKIM keys' files."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from services.sender.mail import keyring
from tests.sender.keys import ED25519, RSA

SHORT_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 -- that it is refused is the test
PrivateKey = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


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

    signers = keyring.read(str(tmp_path))

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
        keyring.read(tmp_path)

    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("directory", [5, True, None, ["keys"]], ids=str)
def test_no_path(directory: object) -> None:
    """A setting that is no path is a ValueError."""
    with pytest.raises(ValueError, match="must be the path of a directory"):
        keyring.read(directory)


def test_nowhere(tmp_path: Path) -> None:
    """A missing directory is named."""
    with pytest.raises(ValueError, match=r"nowhere: cannot be read"):
        keyring.read(tmp_path / "nowhere")


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """A key that other users of the machine can read is refused."""
    put(tmp_path, "our.example/s.pem", pem(RSA))
    (tmp_path / "our.example" / "s.pem").chmod(0o640)

    with pytest.raises(ValueError, match=r"others can read .+s\.pem \(mode 0640\): chmod 600"):
        keyring.read(str(tmp_path))
