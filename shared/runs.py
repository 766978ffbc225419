"""Questions about a run of newsletters, and which of its mails may be sent once more."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol, TypeVar

from shared.contracts import (
    Answer,
    ContentRun,
    Contract,
    CountEmails,
    DescribeEmail,
    EmailCounts,
    EmailDescribed,
    EmailRecord,
    EmailsCounted,
    EmailsListed,
    EmailsRepeated,
    EmailStatus,
    ListEmails,
    ListRuns,
    RepeatEmails,
    RunsListed,
)
from shared.contracts.content import NewsletterId, run_period
from shared.contracts.ledger import whole_steps

MAX_LOOKUPS = 10  # at a time
RUN_TAG = "run"
NOT_REACHED = (EmailStatus.FAILED, EmailStatus.EXPIRED, EmailStatus.BOUNCED)

A = TypeVar("A", bound=Answer)


class Ask(Protocol):
    """Asks a service, and returns the answer, which is of one kind."""

    async def __call__(self, question: Contract, kind: type[A]) -> A:
        """Return the answer. Raises Unavailable or NoAnswer."""


class Refusal(StrEnum):
    """The reason for which a message is not sent once more."""

    UNKNOWN = "unknown"  # no message of this run
    NOT_FAILED = "not-failed"  # it arrived, or may still arrive, or was suppressed or cancelled
    REPEATED = "repeated"  # before: it is that repetition that counts
    NOT_SUBSCRIBED = "not-subscribed"  # any more, or with variables that the templates do not take


@dataclass(frozen=True, slots=True)
class RunQuestions:
    """Asks the scheduler about runs, and the ledger about their mails."""

    ask: Ask
    new_id: Callable[[], str]

    async def find(self, client: str | None, name: str, run: str) -> ContentRun | None:
        """Return a run of a content type by its id."""
        period = run_period(name, run)
        if period is None:
            return None
        after = period + timedelta(seconds=1)
        question = ListRuns(id=self.new_id(), client=client, name=name, after=after, limit=1)
        found = (await self.ask(question, RunsListed)).runs
        return found[0] if found and found[0].run_id == run else None

    async def count(self, run: ContentRun, now: datetime) -> EmailCounts:
        """Return the sums over the mails of a run: from its period on, since it may be late."""
        since, until = whole_steps(run.period_at, now)
        question = CountEmails(
            id=self.new_id(), client=run.client, since=since, until=until, tag=_label(run)
        )
        return (await self.ask(question, EmailsCounted)).total

    async def page(
        self, run: ContentRun, status: EmailStatus, after: str | None, limit: int
    ) -> EmailsListed:
        """Return mails of a run that have a status, the newest first."""
        question = ListEmails(
            id=self.new_id(),
            client=run.client,
            status=status,
            tag=_label(run),
            since=run.period_at,
            after=after,
            limit=limit,
        )
        return await self.ask(question, EmailsListed)

    async def repeat(self, run: ContentRun, messages: Sequence[str]) -> dict[str, Refusal | None]:
        """Send mails of a run once more; return each with the reason if it is not sent.

        Only what did not arrive is sent, each mail once: asked again, nobody is mailed twice.
        """
        refusals = await self._refusals(run, messages)
        rest = tuple(each for each, refusal in refusals.items() if refusal is None)
        if rest:
            question = RepeatEmails(
                id=self.new_id(),
                client=run.client,
                name=run.content_type,
                run_id=run.run_id,
                email_ids=rest,
            )
            repeated = {*(await self.ask(question, EmailsRepeated)).email_ids}
            refusals |= {each: Refusal.NOT_SUBSCRIBED for each in rest if each not in repeated}
        return refusals

    async def _refusals(
        self, run: ContentRun, messages: Sequence[str]
    ) -> dict[str, Refusal | None]:
        turns = asyncio.Semaphore(MAX_LOOKUPS)

        async def look_up(message: str) -> Refusal | None:
            async with turns:
                return await self._refusal(run, message)

        async with asyncio.TaskGroup() as group:
            tasks = {each: group.create_task(look_up(each)) for each in messages}
        return {each: task.result() for each, task in tasks.items()}

    async def _refusal(self, run: ContentRun, message: str) -> Refusal | None:
        newsletter = NewsletterId.read(message)
        if newsletter is None or newsletter.period != run.period_at:
            return Refusal.UNKNOWN
        email = await self._describe(run, newsletter)
        if email is None or email.tags.get(RUN_TAG) != run.run_id:
            return Refusal.UNKNOWN
        if not {*NOT_REACHED}.issuperset(each.status for each in email.recipients):
            return Refusal.NOT_FAILED
        # A sender forgets ids in time, and would then send the repetition a second time.
        if await self._describe(run, newsletter.again()) is not None:
            return Refusal.REPEATED
        return None

    async def _describe(self, run: ContentRun, newsletter: NewsletterId) -> EmailRecord | None:
        question = DescribeEmail(
            id=self.new_id(), email_id=str(newsletter), client=run.client or ""
        )
        return (await self.ask(question, EmailDescribed)).email


def _label(run: ContentRun) -> str:
    return f"{RUN_TAG}:{run.run_id}"
