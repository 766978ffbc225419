"""Building a mail: its content is unsealed, composed, and signed if its domain has keys."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from services.sender.mail.compose import MailDefaults, OutgoingMail, compose, message_id
from services.sender.mail.dkim import DkimSigner
from services.sender.mail.mime import MailContent
from services.sender.mail.passing import passed_on
from shared.contracts import SendEmail, address, mime
from shared.return_path import ReturnPaths

MAX_INLINE_CHARS = 128 * 1024  # of a whole mail as base64, which takes 0.2 ms
Opener = Callable[[str, str], bytes]


@dataclass(frozen=True, slots=True)
class MailBuilder:
    """Builds the mail of a command; `signers` are by the domain of From.

    With `return_paths` a mail has one recipient, whose return path is its envelope sender.
    """

    opener: Opener
    defaults: MailDefaults
    signers: Mapping[str, DkimSigner]
    return_paths: ReturnPaths | None = None

    async def build(self, command: SendEmail, now: datetime) -> OutgoingMail:
        """Return the mail, with the same octets at every attempt if the command has its date.

        Raises ValueError, without the content, when its seal is broken.
        """
        signer = self._signer(command)
        large = command.attachments or len(command.mime or "") > MAX_INLINE_CHARS
        if signer is None and not large:
            return self._build(command, now, None)
        # An RSA signature takes four times as long as all the rest, without Python's lock;
        # megabytes of files would block every other mail.
        return await asyncio.to_thread(self._build, command, now, signer)

    def message_id(self, command: SendEmail) -> str:
        """Return the Message-ID of a command's mail."""
        return command.message_id or message_id(command.id, self.defaults.message_id_domain)

    def _signer(self, command: SendEmail) -> DkimSigner | None:
        if not self.signers:
            return None
        from_ = command.from_ or self.defaults.from_
        return self.signers.get(address.domain_of(address.bare_address(from_)))

    def _build(self, command: SendEmail, now: datetime, signer: DkimSigner | None) -> OutgoingMail:
        date = command.created_at or now
        if command.mime is None:
            mail = compose(command, unseal(command, self.opener), self.defaults, date)
        else:
            mail = passed_on(command, mime.decode(command.mime))
        if self.return_paths is not None and mail.sender:  # a report itself has none
            (recipient,) = mail.recipients
            path = self.return_paths.of(command.id, command.client, recipient, now.date())
            mail = replace(mail, sender=path)
        if signer is None:
            return mail
        # A verifier may ignore a signature from the future (RFC 6376 3.5).
        sign = partial(signer.sign, at=min(date, now))
        to_7bit = mail.to_7bit and partial(_signed, mail.to_7bit, sign)
        return replace(mail, content=sign(mail.content), to_7bit=to_7bit)


def _signed(content: Callable[[], bytes], sign: Callable[[bytes], bytes]) -> bytes:
    return sign(content())


class _SealedContent(BaseModel):
    """The content inside a seal, which no service before this one can check."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    text: str | None = None
    html: str | None = None

    @model_validator(mode="after")
    def _is_something(self) -> Self:
        if self.text is None and self.html is None:
            raise ValueError("must have a text or an html part")
        return self


def unseal(command: SendEmail, opener: Opener) -> MailContent:
    """Return the content of `command`; `opener` opens a seal in the context of the command's id.

    Raises ValueError, without the content, when the seal cannot be opened or has no content.
    """
    if command.sealed is None:
        return MailContent(command.text, command.html)
    opened = _SealedContent.model_validate_json(opener(command.sealed, command.id))
    return MailContent(opened.text, opened.html)
