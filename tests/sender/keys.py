"""Keys for signing with DKIM, made once for all tests, because it takes a while."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.sender.mail.dkim import DkimKey, DkimSigner, PrivateKey
from tests.sender.verifier import PublicKey

RSA = rsa.generate_private_key(65537, 2048)
ED25519 = ed25519.Ed25519PrivateKey.generate()
SIGNER = DkimSigner("our.example", (DkimKey("r1", RSA), DkimKey("e1", ED25519)))
PUBLIC: tuple[PublicKey, ...] = (RSA.public_key(), ED25519.public_key())


def write_key(file: Path, key: PrivateKey = RSA) -> None:
    """Write a private key as a user would."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
