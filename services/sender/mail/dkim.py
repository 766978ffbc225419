"""DKIM signatures (RFC 6376) over the final octets of a mail, before dot-stuffing.

SHA-256 with RSA (RFC 8301) and, beside it, with Ed25519 (RFC 8463). Headers and body are
`relaxed`, because relays rewrap headers and trim lines. `l=` is never set: with it anybody could
extend a body.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from shared.config import check_private
from shared.contracts import address

# Named in `h=` once more than they occur, so that one added later breaks the signature: a mail
# program might show the added one (RFC 6376 8.15).
_ONCE_MORE = ("from", "reply-to", "subject", "date", "to", "cc", "message-id")
# RFC 6376 5.4.1, RFC 8058 4. Headers that relays add or drop, such as X-*, are not signed.
_AS_OFTEN = (
    *("mime-version", "content-type", "content-transfer-encoding", "in-reply-to", "references"),
    *("list-id", "list-unsubscribe", "list-unsubscribe-post", "list-subscribe", "list-help"),
    *("list-archive", "list-post", "list-owner", "feedback-id", "auto-submitted", "precedence"),
)
_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_FOLD = "\r\n "
_LINE_CHARS = 72  # of a signature

PrivateKey = RSAPrivateKey | Ed25519PrivateKey
Fields = Mapping[bytes, Sequence[bytes]]  # canonical fields by name, in the order of the mail
MIN_RSA_BITS = 2048  # RFC 8301 3.2: signers SHOULD
MAX_RSA_BITS = 4096  # RFC 8301 3.2: every verifier can check it
NEXT_SUFFIX = ".next"  # of a key that is to be published before it signs
_LABEL = "[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?"  # RFC 1035 2.3.1
SELECTOR = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")  # RFC 6376 3.1


@dataclass(frozen=True, slots=True)
class DkimKey:
    """A private key, and the selector of its public half in the DNS."""

    selector: str
    private: PrivateKey

    @property
    def algorithm(self) -> str:
        """Its name in `a=`."""
        return "rsa-sha256" if isinstance(self.private, RSAPrivateKey) else "ed25519-sha256"

    def sign(self, data: bytes) -> bytes:
        """Return the signature of `data`."""
        if isinstance(self.private, RSAPrivateKey):
            return self.private.sign(data, PKCS1v15(), SHA256())
        return self.private.sign(hashlib.sha256(data).digest())  # RFC 8463 3


@dataclass(frozen=True, slots=True)
class DkimSigner:
    """Signs the mails of one domain, with each of its keys."""

    domain: str
    keys: tuple[DkimKey, ...]

    def sign(self, content: bytes, at: datetime) -> bytes:
        """Return the mail with one signature for each key in front of it.

        `at` is the time in the signatures. The same mail at the same time gives the same octets.
        With RSA of 2048 bits it takes about 0.4 ms, nearly all without Python's lock.
        """
        head, _, body = content.partition(b"\r\n\r\n")
        fields = _fields(head)
        names = _names(fields)
        body_hash = base64.b64encode(hashlib.sha256(relaxed_body(body)).digest()).decode()
        covered = b"".join(each + b"\r\n" for each in _covered(fields, names))
        unsigned = (
            f"c=relaxed/relaxed; d={self.domain};{_FOLD}t={int(at.timestamp())};"
            f" bh={body_hash};{_FOLD}h={_listed(tuple(names))};{_FOLD}b="
        )
        lines = [_signature(key, unsigned, covered) for key in self.keys]
        return "".join(lines).encode() + content


def _signature(key: DkimKey, unsigned: str, covered: bytes) -> str:
    field = f"DKIM-Signature: v=1; a={key.algorithm}; s={key.selector};{_FOLD}{unsigned}"
    made = base64.b64encode(key.sign(covered + relaxed_field(field.encode()))).decode()
    pieces = (made[start : start + _LINE_CHARS] for start in range(0, len(made), _LINE_CHARS))
    return f"{field}{_FOLD.join(pieces)}\r\n"


def relaxed_field(field: bytes) -> bytes:
    """Return a header field in its signed form (RFC 6376 3.4.2), without its line end."""
    name, _, value = field.partition(b":")
    squeezed = _squeezed(value.replace(b"\r\n", b"")).strip(b" ")
    return name.rstrip(b" \t").lower() + b":" + squeezed


def relaxed_body(body: bytes) -> bytes:
    """Return a body in its hashed form (RFC 6376 3.4.4)."""
    lines = _squeezed(body if body.endswith(b"\r\n") else body + b"\r\n")
    text = lines.replace(b" \r\n", b"\r\n").rstrip(b"\r\n")
    return text + b"\r\n" if text else b""


def _squeezed(octets: bytes) -> bytes:
    """Replace each run of blanks by one space; a regular expression takes five times as long."""
    octets = octets.replace(b"\t", b" ")
    while b"  " in octets:
        octets = octets.replace(b"  ", b" ")
    return octets


def _fields(head: bytes) -> Fields:
    fields: dict[bytes, list[bytes]] = {}
    for field in map(relaxed_field, _FIELD_END.split(head)):
        fields.setdefault(field.partition(b":")[0], []).append(field)
    return fields


def _names(fields: Fields) -> list[str]:
    """Return the names of `h=`."""
    return [
        *(name for name in _ONCE_MORE for _ in range(_count(fields, name) + 1)),
        *(name for name in _AS_OFTEN for _ in range(_count(fields, name))),
    ]


def _count(fields: Fields, name: str) -> int:
    return len(fields.get(name.encode(), ()))


def _covered(fields: Fields, names: Iterable[str]) -> Iterable[bytes]:
    """Yield the fields of `names`: of several with one name the last first (RFC 6376 5.4.2)."""
    left = {name: list(each) for name, each in fields.items()}
    for name in names:
        if same := left.get(name.encode()):
            yield same.pop()


@lru_cache(maxsize=256)  # mails of one kind have the same names
def _listed(names: tuple[str, ...]) -> str:
    lines = [""]
    for name in names:
        if len(lines[-1]) + len(name) > _LINE_CHARS:
            lines.append("")
        lines[-1] += f"{name}:"
    return _FOLD.join(lines).removesuffix(":")


def read_signers(directory: object) -> Mapping[str, DkimSigner]:
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
    keys = [read_key(each) for each in files if each.suffix == ".pem"]
    of_rsa = [key for key in keys if isinstance(key.private, RSAPrivateKey)]
    # Many receivers cannot check Ed25519 (RFC 8463 5): it comes second, never alone.
    others = [key for key in keys if key not in of_rsa]
    if len(of_rsa) != 1 or len(others) > 1:
        raise ValueError(f"{folder}: must hold one RSA key and at most one of Ed25519, as *.pem")
    return DkimSigner(folder.name, (*of_rsa, *others))


def read_key(file: Path) -> DkimKey:
    """Read a private key from `<selector>.pem`, or from `<selector>.pem.next` of a rotation.

    Raises ValueError with the name of the file, without its content, and OSError.
    """
    selector = file.name.removesuffix(NEXT_SUFFIX).removesuffix(".pem")
    if not SELECTOR.fullmatch(selector):
        raise ValueError(f"{file}: must be named after a selector, in ASCII letters and digits")
    private = _private(file)
    if isinstance(private, RSAPrivateKey) and not MIN_RSA_BITS <= private.key_size <= MAX_RSA_BITS:
        raise ValueError(f"{file}: must be an RSA key of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
    return DkimKey(selector, private)


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
