"""Mails in a directory, so that a restart finds them."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from ops.simulator.mail import Mail


class Archive:
    """For each mail `<id>.eml`, its octets, and `<id>.json`, its envelope.

    The envelope is written last: a mail without one was cut short and does not count.
    Files are not synced; a power cut may lose the last mails.
    """

    def __init__(self, directory: Path) -> None:
        """Create the directory if it is missing; raise OSError if that fails."""
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def load(self) -> Iterator[Mail]:
        """Yield the mails, oldest first; files that are not ours are left alone."""
        for path in sorted(self._directory.glob("*.json")):
            try:
                yield _read(path)
            except (OSError, ValueError, KeyError, TypeError):
                continue

    def save(self, mail: Mail) -> None:
        """Write a mail; raise OSError if the disk refuses it."""
        envelope = {
            "sender": mail.sender,
            "recipients": mail.recipients,
            "received_at": mail.received_at.isoformat(),
        }
        self._path(mail, "eml").write_bytes(mail.raw)
        self._path(mail, "json").write_text(json.dumps(envelope), encoding="utf-8")

    def remove(self, mail: Mail) -> None:
        """Delete the files of a mail, if they are there."""
        self._path(mail, "json").unlink(missing_ok=True)
        self._path(mail, "eml").unlink(missing_ok=True)

    def _path(self, mail: Mail, suffix: str) -> Path:
        return self._directory / f"{mail.id}.{suffix}"


def _read(path: Path) -> Mail:
    envelope = json.loads(path.read_text(encoding="utf-8"))
    return Mail(
        id=path.stem,
        sender=str(envelope["sender"]),
        recipients=tuple(map(str, envelope["recipients"])),
        received_at=datetime.fromisoformat(envelope["received_at"]),
        raw=path.with_suffix(".eml").read_bytes(),
    )
