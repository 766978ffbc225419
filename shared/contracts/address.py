"""Email addresses, mailboxes and domains: checked and made canonical when they come in."""

import re

import email_validator
import idna

MAX_DOMAIN_CHARS = 253  # RFC 1035 2.3.4: 255 octets on the wire
MAX_LOCAL_OCTETS = 64  # RFC 5321 4.5.3.1.1
MAX_ADDRESS_OCTETS = 254  # RFC 5321 4.5.3.1.3, errata 1690
MAX_NAME_CHARS = 200  # of a display name; it has to fit a header line of 998 octets when encoded

# A deployment may mail to `.local` or `.test` hosts of its own. Whether a domain can be reached is
# the relay's business; here only the form is checked.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()

# C0 and C1 controls, both Unicode line breaks, and what opens an encoded word (RFC 2047).
_UNSAFE_IN_HEADER = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]|=\?")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')  # RFC 5322 3.2.4, a quoted-string
_PHRASE = re.compile(r"[\w!#$%&'*+/=?^`{|}~ -]*")  # RFC 5322 3.2.3 and RFC 6532: needs no quotes
_IN_NO_PHRASE = re.compile(r'[()<>\[\]:;@\\,"]')  # RFC 5322 3.2.3 less the dot, see its section 4
# Most addresses have this form, which is canonical. The library takes some twenty times as long to
# check them, and each service checks the addresses of each mail.
_PLAIN = re.compile(
    r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+[a-z]{2,}"
)
_PLAIN_DOMAIN = re.compile(r"(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+[a-z]{2,}")
MAX_PLAIN_CHARS = 64  # of an address; each part is then within its limit (RFC 5321 4.5.3.1)


def check_header_text(text: str) -> str:
    """Return `text` if it may stand in a header as it is.

    A control character would start another header. So would an encoded word: Pythons older than the
    fix of CVE-2024-6923 write out a line break that is hidden in one. Both are refused, not
    stripped. Raises ValueError.
    """
    if _UNSAFE_IN_HEADER.search(text):
        raise ValueError(
            "must have no control characters such as line ends, and no encoded words (=?)"
        )
    return text


def check_mailbox(text: str) -> str:
    """Return the canonical form of one mailbox, `local@domain` or `Name <local@domain>`.

    The name is in quotes when it needs them, the domain in lower-case A-labels (RFC 5891); lengths
    are those of RFC 5321 4.5.3.1. Raises ValueError for anything else, such as a list of mailboxes;
    its text does not repeat the input.
    """
    if len(text) <= MAX_PLAIN_CHARS and _PLAIN.fullmatch(text):
        return text
    name, address = split_mailbox(check_header_text(text))
    canonical = _check_address(address)
    return f"{_quoted(_check_name(name))} <{canonical}>" if name else canonical


def check_address(text: str) -> str:
    """Return the canonical form of one bare address, `local@domain`. Raises ValueError."""
    mailbox = check_mailbox(text)
    if mailbox.endswith(">"):
        raise ValueError("must be a bare address, without a name and angle brackets")
    return mailbox


def split_mailbox(mailbox: str) -> tuple[str, str]:
    """Split a mailbox into its display name without quotes, often empty, and its address.

    Raises ValueError when the name would need quotes and has none.
    """
    if not mailbox.endswith(">"):
        return "", mailbox
    phrase, _, address = mailbox[:-1].rpartition("<")
    phrase = phrase.strip()
    if quoted := _QUOTED.fullmatch(phrase):
        phrase = re.sub(r"\\(.)", r"\1", quoted[1])
    elif _IN_NO_PHRASE.search(phrase):
        raise ValueError('must have a name with any of ()<>[]:;@\\," in quotes; or be a list')
    return " ".join(phrase.split()), address


def bare_address(mailbox: str) -> str:
    """Return the address of a canonical mailbox, as the envelope needs it."""
    return mailbox[:-1].rpartition("<")[2] if mailbox.endswith(">") else mailbox


def domain_of(address: str) -> str:
    """Return the domain of a canonical address."""
    return address.rpartition("@")[2]


def check_domain(text: str) -> str:
    """Return a recipient domain as lower-case A-labels without a trailing dot (IDNA 2008).

    Raises ValueError for address literals, names of one label and names of digits alone; its text
    does not repeat the input.
    """
    if len(text) < MAX_PLAIN_CHARS and _PLAIN_DOMAIN.fullmatch(text):
        return text
    return _check_any_domain(text.strip())


def _check_any_domain(text: str) -> str:
    # A-labels are longer than what they stand for, and a megabyte of them would take minutes.
    domain = _a_labels(text).removesuffix(".") if len(text) <= MAX_DOMAIN_CHARS + 1 else ""
    if "." not in domain or len(domain) > MAX_DOMAIN_CHARS:
        raise ValueError("must be a domain name such as example.com")
    if domain.rpartition(".")[2].isdigit():
        raise ValueError("must be a domain name, not an IP address")
    return domain


def _check_address(text: str) -> str:
    if len(text) <= MAX_PLAIN_CHARS and _PLAIN.fullmatch(text):
        return text
    return _check_by_library(text)


def _check_by_library(text: str) -> str:
    local, _, domain = text.rpartition("@")
    if not local:
        raise ValueError("must be an email address such as ann@example.com")
    if "@" in local:
        raise ValueError("must be one email address; several of them are a list")
    try:
        ascii_domain = _a_labels(domain)
        parts = _validated(f"{local}@{ascii_domain}")
    except ValueError:
        raise ValueError(_fault(local, domain)) from None
    return f"{parts.local_part}@{parts.ascii_domain}"


def _validated(text: str) -> email_validator.ValidatedEmail:
    # `strict` is the limit of the local part too.
    return email_validator.validate_email(text, check_deliverability=False, strict=True)


def _fault(local: str, domain: str) -> str:
    """Return the mistake of an address, in words that repeat no part of it."""
    if len(local.encode()) > MAX_LOCAL_OCTETS:
        return f"must have at most {MAX_LOCAL_OCTETS} characters before the @"
    # Before the domain, which a check would refuse for its length without a word on it.
    if len(local.encode()) + len("@") + _domain_chars(domain) > MAX_ADDRESS_OCTETS:
        return f"must have at most {MAX_ADDRESS_OCTETS} characters"
    try:
        _validated(f"a@{_a_labels(domain)}")
    except ValueError:
        return "must have a domain name such as example.com after the @"
    return "must have only letters, digits, single dots and !#$%&'*+-/=?^_`{|}~ before the @"


def _domain_chars(domain: str) -> int:
    """Return the length of a domain as A-labels, or as it is when it has none."""
    try:
        return len(_a_labels(domain))
    except ValueError:
        return len(domain)


def _check_name(name: str) -> str:
    if len(name) > MAX_NAME_CHARS:
        raise ValueError(f"must have a display name of at most {MAX_NAME_CHARS} characters")
    return check_header_text(name)  # again: `=\?` in quotes is `=?`


def _quoted(name: str) -> str:
    if _PHRASE.fullmatch(name):
        return name
    return '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'


def _a_labels(domain: str) -> str:
    try:
        return idna.encode(domain, uts46=True).decode().lower()
    except (idna.IDNAError, UnicodeError):
        raise ValueError("must be a domain name such as example.com") from None
