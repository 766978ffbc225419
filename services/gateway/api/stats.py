"""Sums over mails by their outcomes: of a time, and of each hour or day in it."""

from datetime import date, datetime, time, timedelta
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from aiohttp import web
from pydantic import AfterValidator, Field, PlainValidator, TypeAdapter, model_validator

from services.gateway.api.body import RFC3339_TIME, StrictModel, read_query
from services.gateway.api.openapi import Access, Operation, Success
from services.gateway.api.problem import invalid
from services.gateway.api.request import client_of
from services.gateway.api.response import AskingViews, ResponseBody, respond
from shared.contracts import Category, CountEmails, EmailCounts, EmailsCounted
from shared.contracts.clients import Scope
from shared.contracts.fields import EPOCH, Domain, Moment
from shared.contracts.frequency import check_timezone
from shared.contracts.ledger import MAX_TIMEZONE_CHARS, STEP, TagLabel, next_step, whole_steps

MAX_RANGE = timedelta(days=90)
_DATE_CHARS = len("2026-11-01")
_MOMENT: TypeAdapter[datetime] = TypeAdapter(Annotated[Moment, RFC3339_TIME])


def _moment_or_date(text: str) -> datetime | date:
    try:
        if len(text) == _DATE_CHARS:
            # At midnight, to be within the limits of other times.
            return _MOMENT.validate_python(f"{text}T00:00:00Z").date()
        return _MOMENT.validate_python(text)
    except ValueError:
        raise ValueError(
            "must be a date, or a date and time with its offset from UTC such as "
            "2026-11-01T12:00:00Z"
        ) from None


_MomentOrDate = Annotated[
    datetime | date, PlainValidator(_moment_or_date, json_schema_input_type=datetime | date)
]


class StatsQuery(StrictModel):
    """The query for sums over mails; a date means its midnight in the time zone."""

    from_: _MomentOrDate | None = Field(
        None, alias="from", description="Mails accepted from then on; 90 days before `to` if absent"
    )
    to: _MomentOrDate | None = Field(None, description="Mails accepted before; now if absent")
    by: Literal["hour", "day"] | None = Field(
        None, description="Also the sums of each hour of UTC, or of each day of the time zone"
    )
    timezone: Annotated[
        str, Field(min_length=1, max_length=MAX_TIMEZONE_CHARS), AfterValidator(check_timezone)
    ] = Field("UTC", description="Of dates and days, as IANA names it: `Europe/Vienna`")
    category: Category | None = None
    tag: TagLabel | None = Field(
        None, description="`name`, or `name:value`; not together with `domain`"
    )
    domain: Domain | None = Field(None, description="Of the recipients")

    @model_validator(mode="after")
    def _has_one_dimension(self) -> Self:
        if self.tag is not None and self.domain is not None:
            raise ValueError("must not have both `tag` and `domain`")
        return self

    def range(self, now: datetime) -> tuple[datetime, datetime]:
        """Return the beginning and the end, widened to whole steps. Raises Problem."""
        end = self._moment(self.to) if self.to is not None else now
        begin = self._moment(self.from_) if self.from_ is not None else end - MAX_RANGE
        begin = max(begin, EPOCH)
        if begin >= end:
            raise invalid("#/from", "must be before `to`")
        if end - begin > MAX_RANGE + STEP:  # a day of a zone may have 25 hours
            raise invalid("#/from", f"must be at most {MAX_RANGE.days} days before `to`")
        return whole_steps(begin, end)

    def _moment(self, moment: datetime | date) -> datetime:
        """Return a time; of a date the first step of its day, as the ledger divides days."""
        if isinstance(moment, datetime):
            return moment
        return next_step(datetime.combine(moment, time(), ZoneInfo(self.timezone)))


class MailCounts(ResponseBody):
    """Sums over recipients; `accepted` is the sum of all others."""

    accepted: int
    waiting: int = Field(description="Without a final outcome")
    delivered: int
    bounced_permanent: int
    bounced_transient: int
    bounced_undetermined: int
    failed: int
    expired: int
    suppressed: int
    cancelled: int
    uncertain: int


class PeriodCounts(MailCounts):
    """The sums of an hour or a day."""

    since: datetime = Field(description="Its beginning, in the time zone")


class Stats(ResponseBody):
    """Sums over the mails that were accepted in a time, by what has become of them since."""

    from_: datetime = Field(alias="from", description="In whole hours, `to` as well")
    to: datetime
    total: int = Field(description="Recipients with a final outcome: jobs that were executed")
    successful: int = Field(description="Of these, delivered")
    failed: int = Field(description="Of these, all others")
    counts: MailCounts
    periods: list[PeriodCounts] | None = Field(
        None, description="With `by`: those in which mail was accepted, the oldest first"
    )


GET_STATS = Operation(
    "getStats",
    "GET /v1/stats",
    "Count mails by their outcomes",
    (Success(200, "The sums", Stats),),
    Access.ANY,
    Scope.READ,
    query=StatsQuery,
    description="A mail counts in the hour in which it was accepted, once for each recipient. "
    "The sums of a time grow until all its mails have their outcomes.",
)


class StatsViews(AskingViews):
    """Asks the ledger for sums."""

    async def get(self, request: web.Request) -> web.Response:
        """Return the sums of a time."""
        query, stamp = read_query(StatsQuery, request.query), self.reader.new_stamp()
        begin, end = query.range(stamp.at)
        question = CountEmails(
            id=stamp.id,
            client=client_of(request),
            since=begin,
            until=end,
            **query.model_dump(include={"by", "timezone", "category", "tag", "domain"}),
        )
        answer = await self.ask(question, EmailsCounted)
        zone, total = ZoneInfo(query.timezone), answer.total
        executed = total.accepted - total.waiting
        return respond(
            200,
            Stats(
                from_=begin.astimezone(zone),
                to=end.astimezone(zone),
                total=executed,
                successful=total.delivered,
                failed=executed - total.delivered,
                counts=MailCounts.copied_from(total),
                periods=[_period(each, zone) for each in answer.periods] if query.by else None,
            ),
        )


def _period(counts: EmailCounts, zone: ZoneInfo) -> PeriodCounts:
    return PeriodCounts.copied_from(
        counts.model_copy(update={"since": counts.since.astimezone(zone)})
    )
