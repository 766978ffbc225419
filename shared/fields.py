"""The types of fields: what a value must be wherever it crosses a border, and its limits."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from shared import address

MAX_RECIPIENTS = 100  # of one message: RFC 5321 4.5.3.1.8, what every server must accept
MAX_SUBJECT_CHARS = 900  # fits one line of 998 octets (RFC 5322 2.1.1) when it is ASCII


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must have no NUL character")
    return text


def as_list(value: object) -> object:
    """Take one text for a list of it; anything else as it is."""
    return [value] if isinstance(value, str) else value


Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Address = Annotated[str, AfterValidator(address.check_address)]
Mailbox = Annotated[str, AfterValidator(address.check_mailbox)]
Mailboxes = Annotated[tuple[Mailbox, ...], BeforeValidator(as_list)]
Domain = Annotated[str, AfterValidator(address.check_domain)]
Subject = Annotated[
    str,
    StringConstraints(max_length=MAX_SUBJECT_CHARS),
    AfterValidator(address.check_header_text),
]
Text = Annotated[str, AfterValidator(_no_nul)]
# A short name that a deployment may choose.
Purpose = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
# A language tag (BCP 47); 35 characters are enough for any (RFC 5646 4.4.1).
Locale = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*$", max_length=35)
]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]  # JSON has no way to write a NaN
