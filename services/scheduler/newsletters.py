"""Pure: the mail of a subscription for one period."""

import re
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from services.scheduler.content import Content, MailRequest
from services.scheduler.store.due import DueSubscription
from shared.contracts import Category, SendEmail, header
from shared.contracts.content import NewsletterId, run_id
from shared.contracts.fields import Tag
from shared.links import (
    MAX_LABEL_CHARS,
    LinkedSubscription,
    LinkKind,
    Links,
    link_end,
)
from shared.template import RenderedMail

CONTENT_TYPE = "content_type"  # an entry of a newsletter's metadata, with the name
DIGEST_CHARS = 12  # of a name that is no label
# A label of a domain name in lower case (RFC 1035 2.3.1), unless it ends like one with a digest.
_LABEL = re.compile(rf"(?!.*-[0-9a-f]{{{DIGEST_CHARS}}}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_NO_LABEL = re.compile("[^a-z0-9]+")

# To build one from its fields takes five times as long as to copy one.
_NEWSLETTER = SendEmail(
    id="newsletter", category=Category.BULK, to=("a@b.example",), subject="-", text="-"
)


class Newsletter(NamedTuple):
    """A newsletter whose content is still to be made, by `request`."""

    due: DueSubscription
    period: datetime
    at: datetime
    link: str
    request: MailRequest


class NewsletterMaker(NamedTuple):
    """Makes newsletters with links; `sender` is their From, the sender's default if None."""

    links: Links
    sender: str | None

    def begin(
        self, due: DueSubscription, content: Content, period: datetime, now: datetime
    ) -> Newsletter:
        """Return the newsletter of a period."""
        link = self._link(due, now)
        request = MailRequest(content, due.variables, link, due.locale)
        return Newsletter(due, period, now, link, request)

    def finish(self, newsletter: Newsletter, mail: RenderedMail) -> SendEmail:
        """Return a newsletter with its content: the same id each time it is made."""
        due, period, now, link, _ = newsletter
        own = {
            "id": str(NewsletterId(due.id, period)),
            "client": due.client or None,
            "from_": self.sender,
            "to": (due.email,),
            "subject": mail.subject,
            "text": mail.text,
            "html": mail.html,
            "headers": self._headers(due, link),
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

    def _headers(self, due: DueSubscription, link: str) -> dict[str, str]:
        own_id = list_id(due.client, due.content_type, self.links.host)
        own = {header.UNSUBSCRIBE: f"<{link}>", "List-Id": f"<{own_id}>"}
        if self.links.one_click:
            own[header.ONE_CLICK] = "List-Unsubscribe=One-Click"
        return own


@lru_cache(maxsize=1024)
def list_id(client: str, content_type: str, host: str) -> str:
    """Return the List-Id of a list, `news.shop.mail.example` (RFC 2919 2).

    Each client and content type has its own, also to programs that ignore case (RFC 2919 6). It
    stays the same while the host of the links does.
    """
    names = filter(None, (content_type, client))
    return ".".join((*map(_label, names), host))


def _label(name: str) -> str:
    """Return a name as a label; one that is none gets a digest, so that no other has the same."""
    if len(name) <= MAX_LABEL_CHARS and _LABEL.fullmatch(name):
        return name
    digest = sha256(name.encode()).hexdigest()[:DIGEST_CHARS]
    readable = _NO_LABEL.sub("-", name.lower())[: MAX_LABEL_CHARS - DIGEST_CHARS - 1]
    return f"{readable.strip('-')}-{digest}"


@lru_cache(maxsize=1024)
def _tags(content_type: str, period: datetime) -> tuple[Tag, ...]:
    return (Tag(name="run", value=run_id(content_type, period)),)
