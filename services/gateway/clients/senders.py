"""Pure: from which addresses a client may send."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from shared.contracts import address

MAX_SENDERS = 100  # of a client
MAX_SENDER_CHARS = 255  # an address (RFC 5321 4.5.3.1, errata 1690), or a domain with its `@`
SENDER_FORM = "@"  # as far as JSON Schema can express it


def check_sender(text: str) -> str:
    """Give the canonical form of an address, or of a domain with its `@`. Raises ValueError."""
    if text.startswith("@"):
        return f"@{address.check_domain(text[1:])}"
    return address.check_address(text)


Sender = Annotated[
    str,
    StringConstraints(max_length=MAX_SENDER_CHARS),
    AfterValidator(check_sender),
    Field(json_schema_extra={"minLength": 4, "pattern": SENDER_FORM}),
]


@dataclass(frozen=True, slots=True)
class AllowedSenders:
    """What a client may write into From: addresses and domains such as `@shop.example`.

    None is any. The deployment's default, which stands where a mail has no From, is nobody's own.
    """

    allowed: list[str] | None = None

    def allow(self, mailbox: str | None) -> bool:
        """Tell whether a canonical mailbox may stand in From."""
        if self.allowed is None or mailbox is None:
            return True
        bare = address.bare_address(mailbox)
        return bare in self.allowed or f"@{address.domain_of(bare)}" in self.allowed
