"""The octets of a transaction: the commands of its envelope, and its content by DATA or BDAT."""

import re

from services.sender.mail.compose import OutgoingMail
from services.sender.smtp.relay import Extensions

_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]")
_FIELD = re.compile(rb"[!-9;-~]+:")  # a name right before its colon (RFC 5322 2.2)
_NOT_XTEXT = re.compile(r"[^!-*,-<>-~]")  # RFC 3461 4


def envelope(mail: OutgoingMail, extensions: Extensions) -> list[bytes]:
    """Return MAIL and each RCPT, without line ends. Raises ValueError."""
    size = b" SIZE=%d" % len(mail.content) if extensions.sized else b""
    utf8 = b" SMTPUTF8" if mail.needs_smtputf8 else b""
    body = b" BODY=8BITMIME" if mail.to_7bit is not None else b""
    reports = extensions.dsn and mail.envelope_id
    dsn = b" RET=HDRS ENVID=%b" % mail.envelope_id.encode() if reports else b""
    sender = b"MAIL FROM:<%b>" % mail.sender.encode() + size + body + utf8 + dsn
    recipients = [
        b"RCPT TO:<%b>" % each.encode() + (_original(each) if reports else b"")
        for each in mail.recipients
    ]
    commands = [sender, *recipients]
    if _CONTROLS.search(b"".join(commands)):
        raise ValueError("a control character in an address")
    return commands


def _original(recipient: str) -> bytes:
    """Return the parameter that makes a report name the recipient as we did (RFC 3461 4.2)."""
    if not recipient.isascii():
        return b""  # RFC 6533 has a form of its own for these, which few servers know
    address = _NOT_XTEXT.sub(lambda found: f"+{ord(found[0]):02X}", recipient)
    return b" ORCPT=rfc822;%b" % address.encode()


def stuffed(content: bytes) -> bytes:
    """Return the octets after DATA: with doubled dots, and the final one (RFC 5321 4.5.2)."""
    first = b"." if content.startswith(b".") else b""
    return first + content.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def whole_chunk(content: bytes) -> bytes:
    """Return BDAT with the whole content as it is (RFC 3030 2)."""
    return b"BDAT %d LAST\r\n" % len(content) + content


def first_chunk(content: bytes) -> bytes:
    """Return BDAT with the first line alone.

    A server that does not know BDAT reads the octets behind it as commands. The first line is none
    if `may_be_tried`. Later lines are a client's, and may be commands.
    """
    line = content[: _first_line_octets(content)]
    return b"BDAT %d\r\n" % len(line) + line


def may_be_tried(content: bytes) -> bool:
    """Return whether no server reads the first line as a command.

    A mail that is passed on begins with a field of its client, and `RSET : x` is one too (RFC 5322
    4.5). A verb ends at a blank or at the line's end.
    """
    return _FIELD.match(content) is not None


def last_chunk(content: bytes) -> bytes:
    """Return BDAT with the content behind the first line."""
    return whole_chunk(content[_first_line_octets(content) :])


def _first_line_octets(content: bytes) -> int:
    return content.index(b"\r\n") + 2
