"""Passing on a whole mail: the octets that a program has composed, and their form in 7 bits."""

import base64
from email import message_from_bytes, policy
from email.generator import BytesGenerator
from email.message import Message
from io import BytesIO

from services.sender.mail.compose import OutgoingMail
from shared.contracts import SendEmail, address, mime

_CODING = "Content-Transfer-Encoding"
_POLICY = policy.compat32.clone(linesep="\r\n", max_line_length=0)
_OCTETS_OF_LINE = 57  # 76 characters of base64 (RFC 2045 6.8)


def passed_on(command: SendEmail, content: bytes) -> OutgoingMail:
    """Return the mail with `content` as it is, in the envelope of its command."""
    own = address.bare_address(command.from_ or "")
    sender = own if command.envelope_from is None else command.envelope_from
    recipients = tuple(dict.fromkeys(command.recipients))
    head, body = mime.split(content)
    return OutgoingMail(
        sender=sender,
        recipients=recipients,
        content=content,
        needs_smtputf8=not (head.isascii() and (sender + "".join(recipients)).isascii()),
        not_after=command.expires_at,
        envelope_id=command.id,
        client=command.client,
        to_7bit=None if body.isascii() else lambda: in_7bit(content),
    )


def in_7bit(content: bytes) -> bytes:
    """Return a mail whose 8-bit parts are base64 instead, always the same (RFC 6152 3).

    A server without 8BITMIME must not get anything else. The other parts keep their octets. A
    signature inside the mail (RFC 1847) does not survive, but such mails are 7-bit by its 2.1.
    """
    mail = message_from_bytes(content, policy=_POLICY)
    for part in mail.walk():
        if not part.is_multipart():
            _encode(part)
        elif part.get(_CODING, "").strip().lower() in {"8bit", "binary"}:
            part.replace_header(_CODING, "7bit")
    output = BytesIO()
    BytesGenerator(output, mangle_from_=False, policy=_POLICY).flatten(mail)
    return _header(content, mail.get(_CODING)) + mime.split(output.getvalue())[1]


def _header(content: bytes, coding: str | None) -> bytes:
    """Return the header of a mail with another coding; its other fields keep their octets."""
    fields = mime.read_header(mime.split(content)[0])
    kept = mime.join(field for field in fields if field.name != _CODING.lower())
    return kept + (f"{_CODING}: {coding}\r\n".encode() if coding else b"")


def _encode(part: Message) -> None:
    payload, octets = part.get_payload(), part.get_payload(decode=True)
    if not isinstance(payload, str) or payload.isascii() or not isinstance(octets, bytes):
        return
    lines = (octets[at : at + _OCTETS_OF_LINE] for at in range(0, len(octets), _OCTETS_OF_LINE))
    part.set_payload("".join(f"{base64.b64encode(line).decode()}\r\n" for line in lines))
    del part[_CODING]
    part[_CODING] = "base64"
