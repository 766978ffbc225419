"""The form of a client's rights: as it is shown, and as it was typed, with its mistakes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from pydantic import ValidationError

from shared.contracts import ClientRecord, ClientRights
from shared.contracts.clients import Scope
from shared.contracts.wording import detail
from shared.runtime import log

MAX_MISTAKES = 5  # that are shown of a field
_BOTH = "choose one: {any}, or those that are named"
_NO_NETWORK = "name a network, or choose anywhere: without either no key is valid"
_NO_TIME = "must be a time such as 2030-01-31T08:00"


@dataclass(frozen=True, slots=True)
class ClientForm:
    """The fields as texts, and the mistakes by field."""

    scopes: Sequence[str] = tuple(Scope)
    any_sender: bool = True
    senders: str = ""
    anywhere: bool = True
    networks: str = ""
    expires_at: str = ""  # UTC
    client_id: str = ""
    mistakes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, rights: ClientRights) -> Self:
        """Return the form of a client as it is."""
        return cls(
            tuple(Scope) if rights.scopes is None else rights.scopes,
            rights.senders is None,
            "\n".join(rights.senders or ()),
            rights.networks is None,
            "\n".join(rights.networks or ()),
            "" if rights.expires_at is None else _typed(rights.expires_at),
        )

    @classmethod
    def read(cls, fields: Mapping[str, str], scopes: Sequence[str]) -> Self:
        """Return the form as it was typed."""
        return cls(
            scopes,
            "any_sender" in fields,
            fields.get("senders", ""),
            "anywhere" in fields,
            fields.get("networks", ""),
            fields.get("expires_at", "").strip(),
            fields.get("client_id", "").strip(),
        )

    def rights(self, seen: ClientRights) -> ClientRights | Mapping[str, str]:
        """Return the rights, or the mistakes by field in plain words.

        A time that was not touched is that of `seen`, which may have parts of a second.
        """
        mistakes = dict(self._contradictions())
        values: dict[str, object] = {
            "scopes": None if set(self.scopes) >= {*Scope} else self.scopes,
            "senders": None if self.any_sender else _words(self.senders),
            "networks": None if self.anywhere else _words(self.networks),
        }
        try:
            is_same = self.expires_at == ClientForm.of(seen).expires_at
            values["expires_at"] = seen.expires_at if is_same else _time(self.expires_at)
        except ValueError:
            mistakes["expires_at"] = _NO_TIME
        try:
            found = ClientRights.model_validate(values)
        except ValidationError as error:
            return mistakes_by_field(error, values) | mistakes
        return mistakes or found

    def _contradictions(self) -> Mapping[str, str]:
        found = {}
        if self.any_sender and self.senders.strip():
            found["senders"] = _BOTH.format(any="any sender")
        if self.anywhere and self.networks.strip():
            found["networks"] = _BOTH.format(any="anywhere")
        if not self.anywhere and not self.networks.strip():
            found["networks"] = _NO_NETWORK
        return found


def rights_of(client: ClientRecord) -> ClientRights:
    """Return the rights of a client. Raises ValidationError for those of a newer version."""
    return ClientRights.model_validate(client.model_dump(include={*ClientRights.model_fields}))


def mistakes_by_field(
    error: ValidationError, values: Mapping[str, object] | None = None
) -> dict[str, str]:
    """Return the mistakes in plain words by the first part of their place, with a wrong item."""
    texts: dict[str, list[str]] = {}
    for each in error.errors(include_url=False):
        place = [str(part) for part in each["loc"]]
        name = place[0] if place else ""
        is_item = len(place) > 1 and isinstance((values or {}).get(name), list)
        texts.setdefault(name, []).append(
            f"{each['input']} {detail(each)}" if is_item else detail(each)
        )
    return {name: "; ".join(found[:MAX_MISTAKES]) for name, found in texts.items()}


def differences(seen: ClientRights, wanted: ClientRights) -> str:
    """Return in words what a change is about, for the audit: addresses are masked."""
    before, after = _described(seen), _described(wanted)
    changed = (
        f"{name}: {before[name]} → {after[name]}" for name in before if before[name] != after[name]
    )
    return "; ".join(changed) or "nothing is different"


def _described(rights: ClientRights) -> Mapping[str, str]:
    scopes = Scope if rights.scopes is None else rights.scopes
    senders = None if rights.senders is None else ", ".join(map(_masked, rights.senders))
    return {
        "may": ", ".join(each for each in Scope if each in scopes) or "nothing",
        "as": "any sender" if senders is None else senders or "the default sender",
        "valid in": "anywhere" if rights.networks is None else ", ".join(rights.networks),
        "until": "for ever" if rights.expires_at is None else _typed(rights.expires_at),
    }


def _masked(sender: str) -> str:
    return sender if sender.startswith("@") else log.without_address(sender)


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _time(text: str) -> datetime | None:
    """Return a time in UTC, None for an empty text. Raises ValueError."""
    if not text:
        return None
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _typed(at: datetime) -> str:
    """Return a time as browsers have it in a field."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
