"""The DKIM keys of each From domain, read from files at the start of the sender."""

import re
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from services.sender.mail.dkim import DkimKey, DkimSigner, PrivateKey
from shared.config import check_private
from shared.contracts import address

MIN_RSA_BITS = 2048  # RFC 8301 3.2: signers SHOULD
MAX_RSA_BITS = 4096  # RFC 8301 3.2: every verifier can check it
_LABEL = "[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?"  # RFC 1035 2.3.1
_SELECTOR = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")  # RFC 6376 3.1


def read(directory: object) -> Mapping[str, DkimSigner]:
    """Read `<domain>/<selector>.pem`: for each domain an RSA key and optionally one of Ed25519.

    Names that begin with a dot are ignored: orchestrators keep links there. Raises ValueError with
    the name of the file, without its content.
    """
    if not isinstance(directory, str | Path):
        raise ValueError("must be the path of a directory")  # noqa: TRY004 -- a setting's mistake
    try:
        folders = [each for each in sorted(Path(directory).iterdir()) if _is_ours(each)]
        return {folder.name: _signer(folder) for folder in folders}
    except OSError as error:
        raise ValueError(f"{error.filename}: cannot be read, {error.strerror}") from None


def _signer(folder: Path) -> DkimSigner:
    if not _is_canonical(folder.name):
        raise ValueError(f"{folder}: must be named after a domain, in lower-case A-labels")
    files = [each for each in sorted(folder.iterdir()) if _is_ours(each)]
    keys = [_key(each) for each in files if each.suffix == ".pem"]
    of_rsa = [key for key in keys if isinstance(key.private, RSAPrivateKey)]
    # Many receivers cannot check Ed25519 (RFC 8463 5): it comes second, never alone.
    others = [key for key in keys if key not in of_rsa]
    if len(of_rsa) != 1 or len(others) > 1:
        raise ValueError(f"{folder}: must hold one RSA key and at most one of Ed25519, as *.pem")
    return DkimSigner(folder.name, (*of_rsa, *others))


def _key(file: Path) -> DkimKey:
    if not _SELECTOR.fullmatch(file.stem):
        raise ValueError(f"{file}: must be named after a selector, in ASCII letters and digits")
    private = _private(file)
    if isinstance(private, RSAPrivateKey) and not MIN_RSA_BITS <= private.key_size <= MAX_RSA_BITS:
        raise ValueError(f"{file}: must be an RSA key of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
    return DkimKey(file.stem, private)


def _private(file: Path) -> PrivateKey:
    content = check_private(file).read_bytes()
    try:
        private = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
        raise ValueError(f"{file}: must be a private key in PEM without a password") from None
    if not isinstance(private, RSAPrivateKey | Ed25519PrivateKey):
        raise ValueError(f"{file}: must be a key of RSA or Ed25519")  # noqa: TRY004 -- the file's fault
    return private


def _is_ours(path: Path) -> bool:
    return not path.name.startswith(".")


def _is_canonical(name: str) -> bool:
    try:
        return address.check_domain(name) == name
    except ValueError:
        return False
