"""The mail of a command as the standard library builds it, and the parts of any mail."""

import base64
from collections.abc import Sequence
from datetime import datetime
from email import message_from_bytes, policy
from email.headerregistry import Address
from email.message import EmailMessage, MIMEPart
from typing import Any

from shared.contracts import SendEmail, address
from shared.contracts.attachment import Attachment

WRITTEN_ANYWAY = {"mime-version", "content-type", "content-transfer-encoding"}


def built(command: SendEmail, domain: str, date: datetime) -> bytes:
    """Build the mail of a command that has a From and a text."""
    message = EmailMessage(policy=policy.SMTP)
    message["Date"] = date
    _address(message, "From", [command.from_ or ""])
    _address(message, "To", command.to)
    _address(message, "Cc", command.cc)
    _address(message, "Reply-To", command.reply_to or ())
    message["Subject"] = command.subject
    message["Message-ID"] = f"<{command.id}@{domain}>"
    message.set_content(command.text or "")
    if command.html is not None:
        message.add_alternative(command.html, subtype="html")
    if command.calendar is not None:
        method = {"method": command.calendar.method}
        message.add_alternative(command.calendar.content, subtype="calendar", params=method)
    for each in command.attachments:
        _add(message, each)
    return message.as_bytes()


def _address(message: EmailMessage, name: str, values: Sequence[str]) -> None:
    if values:
        pairs = map(address.split_mailbox, values)
        message[name] = [Address(phrase, addr_spec=bare) for phrase, bare in pairs]


def _add(message: EmailMessage, file: Attachment) -> None:
    octets, types = base64.b64decode(file.content), file.content_type.split("/")
    about: dict[str, Any] = {"filename": file.filename}
    about["cid"] = file.content_id and f"<{file.content_id}>"
    html = message.get_body(("related", "html"))
    if file.content_id is None or html is None:
        message.add_attachment(octets, *types, **about)
    else:
        html.add_related(octets, *types, disposition="inline", **about)


def fields(mail: bytes) -> dict[str, str]:
    """Return the header fields without blanks: the library loses some where it folds."""
    message = message_from_bytes(mail, policy=policy.default)
    return {
        name.lower(): "".join(value.split())
        for name, value in message.items()
        if name.lower() not in WRITTEN_ANYWAY
    }


Part = tuple[str, str | None, str | None, str | None, bytes | list["Part"]]


def parts(mail: bytes) -> Part:
    """Return the tree of parts: type, disposition, file name, id, and octets or parts below."""
    message = message_from_bytes(mail, policy=policy.default)
    return _part(message)


def _part(message: MIMEPart) -> Part:
    disposition = message.get_content_disposition()
    kind = message.get_content_type()
    if method := message.get_param("method"):
        kind = f"{kind}; method={method}"
    about = (kind, disposition, message.get_filename(), message["Content-ID"])
    if message.is_multipart():
        return *about, [_part(each) for each in message.iter_parts()]
    payload = message.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return *about, payload if disposition else _text(payload)


def _text(payload: bytes) -> bytes:
    """Return a text with LF for each line end, and one at the end."""
    text = payload.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return text if text.endswith(b"\n") else text + b"\n"
