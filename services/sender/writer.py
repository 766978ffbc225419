"""Writing a mail: its content is opened, the mail composed, and signed if its domain has keys."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from services.sender.compose import Letterhead, Mail, compose
from services.sender.content import Opener, content_of
from services.sender.dkim import Signer
from shared import address
from shared.contracts import SendEmail


@dataclass(frozen=True, slots=True)
class Writer:
    """Makes the mail that a command asks for; `signers` are by the domain of From."""

    opener: Opener
    letterhead: Letterhead
    signers: Mapping[str, Signer]

    async def write(self, command: SendEmail, now: datetime) -> Mail:
        """Give the mail, with the same octets at every attempt if the command has its date.

        Raises ValueError, without the content, when its seal is broken.
        """
        date = command.created_at or now
        mail = compose(command, content_of(command, self.opener), self.letterhead, date)
        signer = self.signers.get(self._domain(command))
        if signer is None:
            return mail
        # An RSA signature takes as long as all the rest and leaves Python's lock to others. A
        # verifier may pass over a signature from the future (RFC 6376 3.5).
        content = await asyncio.to_thread(signer.signed, mail.content, min(date, now))
        return replace(mail, content=content)

    def _domain(self, command: SendEmail) -> str:
        from_ = command.from_ or self.letterhead.from_
        return address.domain_of(address.bare_address(from_))
