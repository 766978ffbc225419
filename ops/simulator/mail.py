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

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """The decoded headers by name."""
        return content.headers(self.raw)

    @property
    def subject(self) -> str:
        """The decoded subject, empty without one."""
        return next((v for name, v in self.headers.items() if name.lower() == "subject"), "")

    def content(self) -> content.Content:
        """Read the bodies; not remembered, for they can be large."""
        return content.read(self.raw)
