"""One mail as it was received."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from ops.simulator import content


@dataclass(frozen=True, eq=False)
class Mail:
    """An envelope and octets; read as MIME only when somebody looks.

    `id` sorts by arrival. `sender` is empty for a bounce. `recipients` are those of the
    envelope, so that Bcc counts.
    """

    id: str
    sender: str
    recipients: tuple[str, ...]
    received_at: datetime
    raw: bytes

    @property
    def headers(self) -> Mapping[str, str]:
        """The decoded headers by name; not remembered, for they can be large."""
        return content.headers(self.raw)

    @property
    def subject(self) -> str:
        """The decoded subject, empty without one."""
        return self.summary.subject

    @cached_property
    def summary(self) -> content.Summary:
        """The parts of the mail that a list shows, read once."""
        return content.summary(self.raw)

    def content(self) -> content.Content:
        """Read the bodies; not remembered, for they can be large."""
        return content.read(self.raw)

    def mentions(self, part: str) -> bool:
        """Return whether a recipient, the sender, the subject or the text holds `part`.

        The case is ignored, and so is how the text is broken into lines.
        """
        part = part.lower()
        if self.is_to(part) or part in self.sender.lower():
            return True
        return part in self.subject.lower() or " ".join(part.split()) in self.summary.searched

    def is_to(self, part: str) -> bool:
        """Return whether a recipient's address holds `part`, which is in lower case."""
        return any(part in recipient.lower() for recipient in self.recipients)
