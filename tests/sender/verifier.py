"""A DKIM verifier written from RFC 6376 and RFC 8463, step by step, without our own code."""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

PublicKey = RSAPublicKey | Ed25519PublicKey


@dataclass(frozen=True)
class Signature:
    """One DKIM-Signature field as it stands in a mail, and its tags."""

    field: bytes
    tags: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        """The names in `h=`."""
        return [name.strip().lower() for name in self.tags["h"].split(":")]


def signatures(mail: bytes) -> list[Signature]:
    """Return the signatures of a mail, the first one first."""
    return [
        Signature(field, _tags(field.partition(b":")[2].decode()))
        for field in fields(mail)
        if _name(field) == "dkim-signature"
    ]


def verifies(mail: bytes, signature: Signature, key: PublicKey) -> bool:
    """Return whether a relaxed signature is valid for a mail (section 6.1.3)."""
    tags = signature.tags
    assert (tags["v"], tags["c"], "l" in tags) == ("1", "relaxed/relaxed", False)
    body = mail.partition(b"\r\n\r\n")[2]
    if base64.b64decode(tags["bh"]) != hashlib.sha256(relaxed_body(body)).digest():
        return False
    unsigned = re.sub(rb"([;:\s]b[ \t\r\n]*=)[^;]*", rb"\1", signature.field)
    data = b"".join(
        [*(relaxed_field(each) for each in _chosen(mail, signature)), relaxed_field(unsigned)]
    ).removesuffix(b"\r\n")
    return _is_good(key, tags["a"], re.sub(r"\s", "", tags["b"]), data)


def relaxed_field(field: bytes) -> bytes:
    """Apply the five steps of section 3.4.2."""
    name, value = re.fullmatch(rb"([^:]*):(.*)", field, re.DOTALL).groups()  # type: ignore[union-attr] # every field has a colon
    unfolded = re.sub(rb"\r\n(?=[ \t])", b"", value)
    trimmed = re.sub(rb"[ \t]+", b" ", unfolded).strip(b" \r\n")
    return re.sub(rb"[ \t]+$", b"", name).lower() + b":" + trimmed + b"\r\n"


def relaxed_body(body: bytes) -> bytes:
    """Apply the steps of section 3.4.4, line by line."""
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)


def _chosen(mail: bytes, signature: Signature) -> Iterator[bytes]:
    """Yield fields from the bottom up, each once; skip a name without a field (5.4.2)."""
    left = fields(mail)[::-1]
    for name in signature.names:
        found = next((field for field in left if _name(field) == name), None)
        if found is not None:
            left.remove(found)
            yield found


def fields(mail: bytes) -> list[bytes]:
    """Return the fields of a mail's header, each with its folds."""
    return re.split(rb"\r\n(?![ \t])", mail.partition(b"\r\n\r\n")[0])


def _name(field: bytes) -> str:
    return field.partition(b":")[0].strip().lower().decode()


def _tags(text: str) -> dict[str, str]:
    pairs = (each.partition("=") for each in text.split(";") if each.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _is_good(key: PublicKey, algorithm: str, signature: str, data: bytes) -> bool:
    try:
        if isinstance(key, RSAPublicKey):
            assert algorithm == "rsa-sha256"
            key.verify(base64.b64decode(signature), data, PKCS1v15(), SHA256())
        else:
            assert algorithm == "ed25519-sha256"
            key.verify(base64.b64decode(signature), hashlib.sha256(data).digest())
    except InvalidSignature:
        return False
    return True
