"""Email addresses, mailboxes and domains: checked once at the border, canonical after it."""

import re

import email_validator
import idna

MAX_DOMAIN_CHARS = 253  # RFC 1035 2.3.4: 255 octets on the wire

# A deployment may well mail to `.local` or `.test` hosts of its own. Whether a domain can be
# reached is the relay's business; here only the form is checked.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()

_UNSAFE_IN_HEADER = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]|=\?")


def check_header_text(text: str) -> str:
    """Give `text` back when it may stand in a header as it is.

    Control characters would start a header of their own. So would an encoded word: a line break
    hidden in one is written out by Pythons older than the fix of CVE-2024-6923. Both are refused,
    not stripped. Raises ValueError.
    """
    if _UNSAFE_IN_HEADER.search(text):
        raise ValueError("must have no control characters and no encoded words (=?)")
    return text


def check_mailbox(text: str) -> str:
    """Give the canonical form of one mailbox, `local@domain` or `Name <local@domain>`.

    The domain comes back as lower-case A-labels (RFC 5891); lengths are those of RFC 5321
    4.5.3.1. Raises ValueError for anything else, a list of mailboxes among it.
    """
    parts = email_validator.validate_email(
        check_header_text(text), check_deliverability=False, allow_display_name=True
    )
    address = f"{parts.local_part}@{parts.ascii_domain}"
    return f"{parts.display_name} <{address}>" if parts.display_name else address


def check_address(text: str) -> str:
    """Give the canonical form of one bare address, `local@domain`. Raises ValueError."""
    mailbox = check_mailbox(text)
    if mailbox.endswith(">"):
        raise ValueError("must be a bare address without a display name")
    return mailbox


def split_mailbox(mailbox: str) -> tuple[str, str]:
    """Split a canonical mailbox into its display name, often empty, and its address."""
    name, found, rest = mailbox.rpartition(" <")
    return (name, rest.removesuffix(">")) if found else ("", mailbox)


def bare_address(mailbox: str) -> str:
    """Give the address of a canonical mailbox, as the envelope needs it."""
    return split_mailbox(mailbox)[1]


def domain_of(address: str) -> str:
    """Give the domain of a canonical address."""
    return address.rpartition("@")[2]


def check_domain(text: str) -> str:
    """Give a recipient domain as lower-case A-labels without a trailing dot (IDNA 2008).

    Raises ValueError for address literals, names of one label and names of digits alone.
    """
    try:
        domain = idna.encode(text.strip().removesuffix("."), uts46=True).decode().lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise ValueError(f"is not a domain name: {error}") from None
    if "." not in domain or len(domain) > MAX_DOMAIN_CHARS:
        raise ValueError("must be a domain name of two labels or more")
    if domain.rpartition(".")[2].isdigit():
        raise ValueError("must be a domain name, not an address literal")
    return domain
