"""The records that a domain needs to send, as lines of a zone file."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ops.dns.answers import Address
from services.sender.mail.dkim import DkimKey, PrivateKey

MAX_STRING_OCTETS = 255  # RFC 1035 3.3; a TXT record has several strings, without gaps between them
_TTL_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class SendingDomain:
    """A domain, its keys, and how its mails leave. The domain of the envelope may be another one.

    `addresses` are those that receivers see; `includes` are domains whose SPF permits a relay.
    """

    name: str
    keys: Sequence[DkimKey] = ()
    next_keys: Sequence[DkimKey] = ()
    bounce_domain: str | None = None
    addresses: Sequence[Address] = ()
    includes: Sequence[str] = ()
    mail_host: str = ""  # of reports that come back

    @property
    def return_path(self) -> str:
        """The domain of the envelope sender."""
        return self.bounce_domain or self.name


def dkim_name(key: DkimKey, domain: str) -> str:
    """Return the name of a key's record (RFC 6376 3.6.2.1)."""
    return f"{key.selector}._domainkey.{domain}"


def dkim_value(key: DkimKey) -> str:
    """Return the text of a key's record (RFC 6376 3.6.1, RFC 8463 4)."""
    kind = "rsa" if isinstance(key.private, RSAPrivateKey) else "ed25519"
    return f"v=DKIM1; k={kind}; p={base64.b64encode(public_half(key.private)).decode()}"


def public_half(private: PrivateKey) -> bytes:
    """Return the public key as `p=` has it: DER for RSA, 32 octets for Ed25519 (RFC 8463 4.2)."""
    public = private.public_key()
    if isinstance(private, RSAPrivateKey):
        return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def spf_value(domain: SendingDomain) -> str:
    """Return a text that permits the addresses and includes, empty without any.

    It ends in `~all`: some receivers refuse at `-all` before they look at DKIM (RFC 9989 8.1).
    """
    permitted = [f"ip{each.version}:{each}" for each in domain.addresses]
    permitted += [f"include:{each}" for each in domain.includes]
    return " ".join(["v=spf1", *permitted, "~all"]) if permitted else ""


def dkim_lines(keys: Sequence[DkimKey], domain: str) -> Iterator[str]:
    """Yield the record of each key."""
    for key in keys:
        yield _text(dkim_name(key, domain), dkim_value(key))


def zone(domain: SendingDomain) -> Iterator[str]:
    """Yield the lines of a zone file; those that need an address of yours are comments."""
    name, path = domain.name, domain.return_path
    yield f"; {name}: DKIM"
    yield from dkim_lines(domain.keys, name)
    if domain.next_keys:
        yield f"; {name}: DKIM, of a key that does not sign yet"
        yield from dkim_lines(domain.next_keys, name)
    yield f"; {path}: SPF, of the domain of the envelope sender"
    if spf := spf_value(domain):
        yield _text(path, spf)
    else:
        yield "; --address: where your mails leave; --include: the SPF of your relay's provider"
        yield f'; {path}. TXT "v=spf1 ip4:ADDRESS include:PROVIDER ~all"'
    yield f"; {path}: where reports come back to"
    if domain.mail_host:
        yield f"{path}. {_TTL_SECONDS} IN MX 10 {domain.mail_host}."
    else:
        yield "; --mx: the host of inbound, or of the server that has the mailboxes"
        yield f"; {path}. MX 10 HOST."
    yield f"; {name}: DMARC; p=quarantine or p=reject once the reports show no mail that fails"
    yield _text(f"_dmarc.{name}", f"v=DMARC1; p=none; rua=mailto:postmaster@{name}")


def _text(name: str, value: str) -> str:
    starts = range(0, len(value), MAX_STRING_OCTETS)
    strings = [f'"{value[start : start + MAX_STRING_OCTETS]}"' for start in starts]
    text = strings[0] if len(strings) == 1 else f"( {' '.join(strings)} )"
    return f"{name}. {_TTL_SECONDS} IN TXT {text}"
