"""Pure: the rows that commands and outcomes of mails change."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from services.ledger.mails import (
    HOUR_MILLISECONDS,
    Acceptance,
    RecordedOutcome,
    accepted_at,
    count_name,
    is_copy,
    is_remark,
    joined,
    labels,
    rank,
    slices,
    waiting,
)
from shared.return_path import address_hash, text_hash

COUNTS = (
    *("waiting", "delivered", "bounced_permanent", "bounced_transient", "bounced_undetermined"),
    *("failed", "expired", "suppressed", "cancelled", "uncertain"),
)
_PLACE = {name: place for place, name in enumerate(COUNTS)}

Place = tuple[int, str]  # the number of a mail, and a recipient of it
Total = tuple[str, str, str, int, int]  # the primary key of `totals`
Row = tuple[Any, ...]


class KnownMail(NamedTuple):
    """The facts of a mail by which its recipients are kept and counted."""

    number: int
    client: str
    category: int
    tags: Mapping[str, str]


class MailChanges:
    """The changes of some mails in one transaction; `known` are outcomes as they are now.

    All rows are in the order of their primary keys, in which every transaction writes them.
    """

    def __init__(self, known: Mapping[Place, RecordedOutcome]) -> None:
        self._present = dict(known)
        self._changed: dict[Place, KnownMail] = {}
        self._history: dict[tuple[int, str, int, int], RecordedOutcome] = {}
        self._totals: dict[Total, list[int]] = {}
        self._accepted: list[Row] = []
        self._tags: list[Row] = []
        self._message_ids: list[Row] = []

    def accept(self, mail: KnownMail, facts: Acceptance, recipients: Sequence[str]) -> None:
        """Keep the facts of a new mail, by its Message-ID for `recipients` alone."""
        self._accepted.append(
            (
                *(mail.number, facts.email_id, facts.client, facts.category, facts.sender),
                *(facts.subject, facts.list_id, _json(facts.tags), _json(facts.metadata)),
                *(facts.size_bytes, facts.expires_at),
            )
        )
        self._tags += ((mail.client, label, mail.number) for label in labels(mail.tags))
        if facts.message_id is not None:
            of = text_hash(facts.message_id)
            self._message_ids += (
                (mail.number, each, of) for each in {*map(address_hash, recipients)}
            )

    def expect(self, mail: KnownMail, recipients: Iterable[str]) -> None:
        """Add the recipients of a command that have no outcome, unless they are known."""
        for recipient in recipients:
            if (mail.number, recipient) not in self._present:
                self._replace(mail, None, waiting(recipient))

    def apply(self, mail: KnownMail, outcome: RecordedOutcome) -> None:
        """Add an outcome: the highest in rank counts, the others are history."""
        if is_remark(outcome):
            self._keep_earlier(mail, outcome)
            return
        old = self._present.get((mail.number, outcome.recipient))
        if old is None:
            self._replace(mail, None, outcome)
            return
        counting, other = (outcome, old) if rank(outcome) > rank(old) else (old, outcome)
        counting = joined(counting, other)
        if counting != old:
            self._replace(mail, old, counting)
        if other.attempt and not is_copy(old, outcome):
            self._keep_earlier(mail, other)

    @property
    def messages(self) -> Sequence[Row]:
        """The rows of new mails."""
        return sorted(self._accepted)  # no two have one number

    @property
    def tags(self) -> Sequence[Row]:
        """The rows of the tags of new mails."""
        return sorted(self._tags)

    @property
    def message_ids(self) -> Sequence[Row]:
        """The rows of the Message-IDs that clients have chosen for new mails."""
        return sorted(self._message_ids)

    @property
    def recipients(self) -> Sequence[Row]:
        """The rows of recipients that are new, or have another outcome."""
        return [
            (place[0], place[1], mail.client, address_hash(place[1]), *self._present[place][1:])
            for place, mail in sorted(self._changed.items())
        ]

    @property
    def history(self) -> Sequence[Row]:
        """The rows of outcomes that do not count any more."""
        return [(place[0], *outcome) for place, outcome in sorted(self._history.items())]

    @property
    def totals(self) -> Sequence[Row]:
        """The differences of the sums, without those that have none."""
        return [(*key, *counts) for key, counts in sorted(self._totals.items()) if any(counts)]

    def _keep_earlier(self, mail: KnownMail, outcome: RecordedOutcome) -> None:
        """Keep an outcome that does not count; of its copies the first by time."""
        place = (mail.number, *outcome[:3])
        kept = self._history.get(place)
        if kept is None or outcome.at < kept.at:
            self._history[place] = outcome

    def _replace(self, mail: KnownMail, old: RecordedOutcome | None, new: RecordedOutcome) -> None:
        place = mail.number, new.recipient
        self._present[place], self._changed[place] = new, mail
        before, after = old and _PLACE[count_name(old)], _PLACE[count_name(new)]
        if before == after:
            return
        hour = accepted_at(mail.number) // HOUR_MILLISECONDS
        for dimension, value in slices(mail.tags, new.recipient):
            key = (mail.client, dimension, value, hour, mail.category)
            counts = self._totals.get(key)
            if counts is None:
                counts = self._totals[key] = [0] * len(COUNTS)
            counts[after] += 1
            if before is not None:
                counts[before] -= 1


def _json(texts: Mapping[str, str]) -> str | None:
    return orjson.dumps(texts).decode() if texts else None
