"""Pure: the mail of a subscription for one period."""

from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

import orjson

from services.scheduler.content import Content
from services.scheduler.store.due import DueSubscription
from shared.contracts import Category, SendEmail, header
from shared.contracts.content import NewsletterId, run_id
from shared.contracts.fields import Tag
from shared.links import UNSUBSCRIBE_VARIABLE, LinkedSubscription, LinkKind, Links, link_end

CONTENT_TYPE = "content_type"  # an entry of a newsletter's metadata, with the name

# To build one from its fields takes five times as long as to copy one.
_NEWSLETTER = SendEmail(
    id="newsletter", category=Category.BULK, to=("a@b.example",), subject="-", text="-"
)


class NewsletterMaker(NamedTuple):
    """Makes newsletters with links; `sender` is their From, the sender's default if None."""

    links: Links
    sender: str | None

    def make(
        self, due: DueSubscription, content: Content, period: datetime, now: datetime
    ) -> SendEmail:
        """Return the mail of a period: the same id each time it is made.

        Raises VariableMistake if the subscription's variables do not fit the templates.
        """
        link = self._link(due, now)
        variables = orjson.loads(due.variables) | {UNSUBSCRIBE_VARIABLE: link}
        mail = content.render(variables, link, due.locale)
        own = {
            "id": str(NewsletterId(due.id, period)),
            "client": due.client or None,
            "from_": self.sender,
            "to": (due.email,),
            "subject": mail.subject,
            "text": mail.text,
            "html": mail.html,
            "headers": self._headers(content, link),
            "tags": _tags(due.content_type, period),
            "metadata": {"subscription": due.id, CONTENT_TYPE: due.content_type},
            "list_id": due.content_type,
            "created_at": now,
            "retries": due.retries,
        }
        return _NEWSLETTER.model_copy(update=own)

    def _link(self, due: DueSubscription, now: datetime) -> str:
        return self.links.to(
            LinkedSubscription.model_construct(
                kind=LinkKind.UNSUBSCRIBE,
                client=due.client or None,
                email=due.email,
                content_type=due.content_type,
                locale=due.locale,
                expires_at=link_end(now),
            )
        )

    def _headers(self, content: Content, link: str) -> dict[str, str]:
        own = {header.UNSUBSCRIBE: f"<{link}>", "List-Id": content.list_id(self.links.host)}
        if self.links.one_click:
            own[header.ONE_CLICK] = "List-Unsubscribe=One-Click"
        return own


@lru_cache(maxsize=1024)
def _tags(content_type: str, period: datetime) -> tuple[Tag, ...]:
    return (Tag(name="run", value=run_id(content_type, period)),)
